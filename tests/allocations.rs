//! What a unary call allocates: nothing beyond what the types of the method need.
//!
//! Both ends run on this thread, over a real socket, so that all they allocate is counted here.

use wirecall::{Client, Server};

#[wirecall::service]
trait Sums {
    async fn add(&self, a: i64, b: i64) -> i64;
}

struct Adder;

impl Sums for Adder {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

/// As many calls as this are in flight at a time.
const DEPTH: usize = 256;

/// Calls that each of them makes, one after the other.
const CALLS: usize = 100;

/// What reads and writes of many calls at a time may allocate, for each call.
const MAX_ALLOCATIONS: f64 = 0.05;

async fn calls(client: &SumsClient, each: usize) {
    let loops = (0..DEPTH).map(|loop_number| async move {
        for number in 0..each {
            let (a, b) = (loop_number as i64, number as i64);
            assert_eq!(client.add(a, b).await.unwrap(), a + b);
        }
    });
    futures::future::join_all(loops).await;
}

#[test]
fn a_call_allocates_nothing_on_either_side() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let server = Server::builder().service(SumsServer::new(Adder));
        let server = server.bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(server.run());
        let client = Client::connect(format!("ws://{address}")).await.unwrap();
        let sums = SumsClient::new(&client);
        // Tables and buffers grow to what they need.
        calls(&sums, 10).await;
        (client, sums)
    });
    // A thread that is held up for a moment takes its handlers for slow ones, and gives the next of
    // them tasks: on a machine that does something else beside it is tried again.
    let mut a_call = f64::INFINITY;
    for _ in 0..50 {
        let counted = allocation_counter::measure(|| runtime.block_on(calls(&client.1, CALLS)));
        a_call = a_call.min(counted.count_total as f64 / (DEPTH * CALLS) as f64);
        if a_call <= MAX_ALLOCATIONS {
            return;
        }
    }
    panic!("{a_call} allocations a call");
}

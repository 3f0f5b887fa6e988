//! Whole calls.

use futures::future::join_all;
use gungraun::prelude::*;
use tokio::runtime::Runtime;
use wirecall::{Client, Server};

use crate::{BODY, EchoClient, EchoServer, Implementation, OPERATIONS, runtime};

/// Both ends on one thread.
struct Both {
    runtime: Runtime,
    client: Client,
    in_flight: usize,
}

fn both(in_flight: usize) -> Both {
    let runtime = runtime();
    let client = runtime.block_on(async {
        let server = Server::builder().service(EchoServer::new(Implementation));
        let server = server.build().unwrap();
        let endpoint = server.in_memory();
        tokio::spawn(server.run());
        // Within a process, nothing but MessagePack is spoken.
        Client::connect(endpoint).await.unwrap()
    });
    let both = Both {
        runtime,
        client,
        in_flight,
    };
    both.calls(2 * in_flight);
    both
}

impl Both {
    /// Makes so many calls, in as many loops as are to be in flight at a time.
    fn calls(&self, count: usize) {
        let echo = EchoClient::new(&self.client);
        let loops = (0..self.in_flight).map(|_| async {
            for _ in 0..count / self.in_flight {
                assert!(echo.echo(BODY).await.unwrap() == *BODY);
            }
        });
        self.runtime.block_on(join_all(loops));
    }
}

// Whole calls, both ends together, with what the runtime does for them.
#[library_benchmark(setup = both)]
#[bench::msgpack_1(1)]
#[bench::msgpack_256(256)]
fn whole(both: Both) -> Both {
    both.calls(OPERATIONS);
    both
}

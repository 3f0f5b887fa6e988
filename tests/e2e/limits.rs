//! Limits, and what is said to those who reach them.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use wirecall::{Client, Code, Codec, Fate, Limits, Server};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    support::{connect, dial, idle, soon, start},
};

#[wirecall::service]
trait Slow {
    /// Waits to be let go, and says how many ran at that time.
    async fn run(&self) -> usize;
}

#[derive(Clone)]
struct Held {
    permits: Arc<Semaphore>,
    running: Arc<std::sync::atomic::AtomicUsize>,
    most: Arc<std::sync::atomic::AtomicUsize>,
}

impl Held {
    fn new() -> Self {
        Held {
            permits: Arc::new(Semaphore::new(0)),
            running: Arc::default(),
            most: Arc::default(),
        }
    }
}

impl Slow for Held {
    async fn run(&self) -> usize {
        use std::sync::atomic::Ordering::SeqCst;
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(running, SeqCst);
        self.permits.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, SeqCst);
        running
    }
}

#[tokio::test]
async fn more_calls_than_the_peer_allows_wait_here_and_all_are_answered() {
    let held = Held::new();
    let server = Server::builder()
        .service(SlowServer::new(held.clone()))
        .limits(Limits::default().max_in_flight(10));
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let slow = SlowClient::new(&client);
    let mut calls: Vec<_> = (0..100).map(|_| tokio::spawn(slow.run())).collect();
    // One that was started but has no room yet waits like the others.
    calls.push(tokio::spawn(slow.run().start()));
    held.permits.add_permits(101);
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    let most = held.most.load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 10, "{most} ran at a time");
    idle(&client).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_room_until_its_deadline_was_not_sent() {
    let held = Held::new();
    let server = Server::builder()
        .service(SlowServer::new(held.clone()))
        .limits(Limits::default().max_in_flight(1))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    let slow = SlowClient::new(&client);
    let first = slow.run().timeout(Duration::MAX).start();
    let failed = slow
        .run()
        .timeout(Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED);
    assert_eq!(failed.fate(), Fate::NotSent);
    held.permits.add_permits(1);
    first.await.unwrap();
    idle(&client).await;
}

#[tokio::test]
async fn cancelled_handlers_count_until_they_have_really_ended() {
    /// Work that cannot be cancelled: it does not await.
    #[wirecall::service]
    trait Stubborn {
        #[rpc(spawn)]
        async fn block(&self);
    }
    #[derive(Clone)]
    struct Wall(
        Arc<std::sync::atomic::AtomicUsize>,
        Arc<std::sync::atomic::AtomicUsize>,
    );
    impl Stubborn for Wall {
        async fn block(&self) {
            use std::sync::atomic::Ordering::SeqCst;
            let running = self.0.fetch_add(1, SeqCst) + 1;
            self.1.fetch_max(running, SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            self.0.fetch_sub(1, SeqCst);
        }
    }

    let wall = Wall(Arc::default(), Arc::default());
    let most = wall.1.clone();
    // A runtime of its own, with more threads than may be used.
    let (address, addressed) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(8)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let builder = Server::builder()
                .service(StubbornServer::new(wall))
                .limits(Limits::default().max_in_flight(3));
            address.send(start(builder).await).unwrap();
            let _ = stopped.await;
        });
    });
    let client = connect(addressed.await.unwrap(), Codec::MessagePack).await;
    let stubborn = StubbornClient::new(&client);
    for _ in 0..200 {
        let call = stubborn.block();
        // Sent, if there is room, and given up at once.
        let mut call = Box::pin(call);
        let _ = futures::poll!(&mut call);
        drop(call);
    }
    soon(stubborn.block()).await.unwrap();
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 3, "{most} ran at a time");
    drop(stop);
    server.join().unwrap();
}

#[tokio::test]
async fn a_body_that_is_too_large_fails_before_it_is_sent() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .limits(Limits::default().max_body_bytes(10_000));
    let address = start(server).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        let failed = interop.echo(&[0; 20_000]).await.unwrap_err();
        assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);
        assert_eq!(failed.fate(), Fate::NotSent);
        assert!(failed.to_string().contains("10000"), "{failed}");
        assert_eq!(interop.add(1, 1).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_result_that_is_too_large_is_an_error_of_its_call() {
    let address = start(Server::builder().service(InteropServer::new(Implementation))).await;
    for codec in Codec::ALL {
        let client = dial(address, codec)
            .limits(Limits::default().max_body_bytes(10_000))
            .connect()
            .await
            .unwrap();
        let interop = InteropClient::new(&client);
        let failed = interop.echo(&[0; 20_000]).await.unwrap_err();
        assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);
        assert_eq!(failed.fate(), Fate::Executed);
        assert_eq!(interop.add(1, 1).await.unwrap(), 2);
        idle(&client).await;
    }
}

#[tokio::test]
async fn many_large_answers_pass_through_the_outbound_queue() {
    let address = start(Server::builder().service(InteropServer::new(Implementation))).await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    // 64 MiB each way, through queues of 1 MiB.
    let data = vec![7; 512 << 10];
    let calls = (0..128).map(|_| async {
        assert_eq!(interop.echo(&data).await.unwrap().len(), data.len());
    });
    soon(futures::future::join_all(calls)).await;
    idle(&client).await;
}

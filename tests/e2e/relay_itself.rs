//! The relay that other tests go through: what each of its faults does, beside a plain echo server.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    relay::{
        Direction::{self, ToClient, ToServer},
        Fault, Relay,
    },
    support::soon,
};

/// More than the kernel and the relay hold together.
const MORE_THAN_FITS: usize = 128 << 20;

/// A server that echoes, behind a relay.
struct Echo {
    relay: Relay,
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<JoinHandle<Served>>,
}

/// What came on one of its connections, and how that ended.
type Served = (Vec<u8>, io::Result<()>);

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accept, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = accept.send(tokio::spawn(echo(stream)));
            }
        });
        Echo {
            relay: Relay::start(address).await,
            address,
            accepted,
        }
    }

    /// A new connection through the relay, in use at both ends, and what the server knows of it.
    async fn open(&mut self) -> (TcpStream, JoinHandle<Served>) {
        let mut client = self.connect().await;
        echoes(&mut client, b"hello").await;
        (client, soon(self.accepted.recv()).await.unwrap())
    }

    async fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.relay.addr()).await.unwrap();
        // One that is refused may be gone already.
        let _ = client.set_nodelay(true);
        client
    }

    /// What was forwarded to the server and to the client.
    fn forwarded(&self) -> (u64, u64) {
        (
            self.relay.forwarded(ToServer),
            self.relay.forwarded(ToClient),
        )
    }

    /// Lets everybody do what there is to do.
    async fn settle(&mut self) {
        let mut direct = TcpStream::connect(self.address).await.unwrap();
        // Each of these is a turn for all tasks, and a look at all sockets.
        for _ in 0..10 {
            echoes(&mut direct, b"?").await;
        }
        self.accepted.recv().await;
    }
}

async fn echo(mut stream: TcpStream) -> Served {
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return (received, Ok(())),
            Ok(read) => {
                received.extend_from_slice(&buffer[..read]);
                if let Err(error) = stream.write_all(&buffer[..read]).await {
                    return (received, Err(error));
                }
            }
            Err(error) => return (received, Err(error)),
        }
    }
}

/// Sends this and gets it back.
async fn echoes(client: &mut TcpStream, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    let (mut from, mut to) = client.split();
    let (sent, read) =
        soon(async { tokio::join!(to.write_all(bytes), from.read_exact(&mut back)) }).await;
    sent.unwrap();
    read.unwrap();
    assert!(back == bytes, "something else came back");
}

/// Asserts that nothing can be read, not even an end.
fn is_silent(client: &TcpStream) {
    let read = client.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock));
}

/// What can still be read, and how that ends.
async fn rest(client: &mut TcpStream) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut rest = Vec::new();
    let end = soon(client.read_to_end(&mut rest)).await;
    (rest, end.map(drop).map_err(|error| error.kind()))
}

/// The same at the server.
async fn served(connection: JoinHandle<Served>) -> (Vec<u8>, Result<(), ErrorKind>) {
    let (received, end) = soon(connection).await.unwrap();
    (received, end.map_err(|error| error.kind()))
}

/// Waits for something that nobody tells of.
async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Bytes of which none looks like the one before.
fn some_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn without_a_fault_bytes_and_ends_pass_both_ways() {
    let mut server = Echo::start().await;
    assert_eq!(server.relay.url(), format!("ws://{}", server.relay.addr()));
    let (mut client, connection) = server.open().await;
    let bytes = some_bytes(3 << 20);
    echoes(&mut client, &bytes).await;
    let total = bytes.len() as u64 + 5;
    assert_eq!(server.forwarded(), (total, total));

    // A FIN in one direction leaves the other one open.
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, (b"last".to_vec(), Ok(())));
    let (received, end) = served(connection).await;
    assert_eq!((received.len() as u64, end), (total + 4, Ok(())));
}

#[tokio::test]
async fn a_reset_by_one_end_is_passed_on_to_the_other() {
    let mut server = Echo::start().await;
    let (client, connection) = server.open().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(served(connection).await, (b"hello".to_vec(), reset));
}

#[tokio::test]
async fn without_a_server_connections_are_reset() {
    // The port is taken, and nobody listens.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let relay = Relay::start(nobody.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(relay.addr()).await.unwrap();
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(rest(&mut client).await, (Vec::new(), reset));
}

#[tokio::test]
async fn led_to_another_server_the_relay_leaves_connections_where_they_are() {
    let (mut one, mut other) = (Echo::start().await, Echo::start().await);
    let (mut old, connection) = one.open().await;
    one.relay.lead_to(other.address);
    let mut new = one.connect().await;
    echoes(&mut new, b"new").await;
    echoes(&mut old, b"old").await;
    drop((old, new));
    assert_eq!(served(connection).await.0, b"helloold");
    let connection = soon(other.accepted.recv()).await.unwrap();
    assert_eq!(served(connection).await.0, b"new");
}

#[tokio::test]
async fn half_open_connections_forward_nothing_and_stay_open_until_they_are_healed() {
    let mut server = Echo::start().await;
    let (mut old, _) = server.open().await;
    server.relay.set(Fault::HalfOpen);
    old.write_all(b"old").await.unwrap();
    let mut new = server.connect().await;
    new.write_all(b"new").await.unwrap();
    soon(server.relay.wait_for_connections(2)).await;
    server.settle().await;
    is_silent(&old);
    is_silent(&new);
    assert_eq!(server.forwarded(), (5, 5));

    server.relay.heal();
    for (client, expected) in [(&mut old, b"old"), (&mut new, b"new")] {
        let mut back = [0; 3];
        soon(client.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, expected);
    }
}

#[tokio::test]
async fn a_half_open_connection_hides_the_end_of_its_other_side() {
    let mut server = Echo::start().await;
    let (client, connection) = server.open().await;
    server.relay.set(Fault::HalfOpen);
    drop(client);
    server.settle().await;
    assert!(!connection.is_finished());
    server.relay.heal();
    assert_eq!(served(connection).await, (b"hello".to_vec(), Ok(())));
}

#[tokio::test]
async fn one_way_forwards_in_its_direction_alone() {
    let mut server = Echo::start().await;
    let (mut client, _) = server.open().await;
    server.relay.set(Fault::OneWay(ToServer));
    client.write_all(b"asked").await.unwrap();
    until(|| server.relay.forwarded(ToServer) == 10).await;
    server.settle().await;
    is_silent(&client);
    assert_eq!(server.forwarded(), (10, 5));

    server.relay.set(Fault::OneWay(ToClient));
    client.write_all(b"more").await.unwrap();
    let mut back = [0; 5];
    soon(client.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"asked");
    server.settle().await;
    is_silent(&client);
    assert_eq!(server.forwarded(), (10, 10));

    server.relay.heal();
    let mut back = [0; 4];
    soon(client.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"more");
}

#[tokio::test]
async fn a_delay_holds_for_each_way_and_does_not_limit_throughput() {
    const DELAY: Duration = Duration::from_millis(50);
    let mut server = Echo::start().await;
    let (mut client, _) = server.open().await;
    server.relay.set(Fault::Delay(DELAY));
    let began = Instant::now();
    echoes(&mut client, b"?").await;
    assert!(began.elapsed() >= 2 * DELAY);

    // More than a hundred reads: one after the other, they would take ten seconds.
    let began = Instant::now();
    echoes(&mut client, &some_bytes(2 << 20)).await;
    assert!(began.elapsed() >= 2 * DELAY);
    assert!(began.elapsed() < Duration::from_secs(5));

    // An end is no faster than what was before it.
    let began = Instant::now();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
    assert!(began.elapsed() >= 2 * DELAY);
}

#[tokio::test]
async fn bytes_keep_their_order_when_a_delay_ends() {
    let mut server = Echo::start().await;
    let (mut client, _) = server.open().await;
    server.relay.set(Fault::Delay(Duration::from_millis(50)));
    client.write_all(b"one").await.unwrap();
    server.settle().await;
    server.relay.heal();
    client.write_all(b"two").await.unwrap();
    let mut back = [0; 6];
    soon(client.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"onetwo");
}

#[tokio::test]
async fn a_throttle_lets_no_more_through_than_it_says() {
    const BYTES_PER_SECOND: u32 = 20_000;
    let mut server = Echo::start().await;
    let (mut client, _) = server.open().await;
    let fault = Fault::Throttle {
        bytes_per_second: BYTES_PER_SECOND,
    };
    server.relay.set(fault);
    let bytes = some_bytes(4_000);
    let began = Instant::now();
    let mut asked = Box::pin(echoes(&mut client, &bytes));
    loop {
        let done = timeout(Duration::from_millis(10), &mut asked).await.is_ok();
        for direction in [ToServer, ToClient] {
            let forwarded = server.relay.forwarded(direction) - 5;
            // What goes at a time is as much as 20 ms are for.
            let most = (began.elapsed().as_secs_f64() + 0.02) * f64::from(BYTES_PER_SECOND);
            assert!(
                forwarded as f64 <= most,
                "{forwarded} bytes, {most} at most"
            );
        }
        if done {
            break;
        }
    }
    drop(asked);
    server.relay.heal();
    echoes(&mut client, &some_bytes(1 << 20)).await;
}

#[tokio::test]
async fn byte_wise_each_byte_is_written_by_itself() {
    let mut server = Echo::start().await;
    let (mut client, _) = server.open().await;
    let writes = |direction| server.relay.writes(direction);
    let before = (writes(ToServer), writes(ToClient));
    server.relay.set(Fault::ByteWise);
    echoes(&mut client, &some_bytes(2_000)).await;
    assert_eq!(server.forwarded(), (2_005, 2_005));
    assert_eq!(writes(ToServer) - before.0, 2_000);
    assert_eq!(writes(ToClient) - before.1, 2_000);
}

#[tokio::test]
async fn refused_are_new_connections_alone() {
    let mut server = Echo::start().await;
    let (mut old, _) = server.open().await;
    server.relay.set(Fault::Refuse);
    let mut refused = server.connect().await;
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(rest(&mut refused).await, (Vec::new(), reset));
    echoes(&mut old, b"old").await;
    assert_eq!(server.relay.connections(), 2);
    server.relay.heal();
    server.open().await;
    assert_eq!(server.relay.connections(), 3);
}

#[tokio::test]
async fn a_cut_is_an_orderly_end_for_both_and_the_next_connection_works() {
    let mut server = Echo::start().await;
    let (mut client, connection) = server.open().await;
    let (mut other, other_connection) = server.open().await;
    server.relay.cut();
    for client in [&mut client, &mut other] {
        assert_eq!(rest(client).await, (Vec::new(), Ok(())));
    }
    for connection in [connection, other_connection] {
        assert_eq!(served(connection).await, (b"hello".to_vec(), Ok(())));
    }
    server.open().await;
}

#[tokio::test]
async fn bytes_on_their_way_are_lost_when_the_connection_is_cut_or_reset() {
    let mut server = Echo::start().await;
    let (cut, reset) = (Relay::cut as fn(&Relay), Relay::reset as fn(&Relay));
    for end in [cut, reset] {
        let (mut client, connection) = server.open().await;
        server.relay.set(Fault::Delay(Duration::from_secs(3600)));
        client.write_all(b"lost").await.unwrap();
        server.settle().await;
        end(&server.relay);
        assert_eq!(rest(&mut client).await.0, b"");
        assert_eq!(served(connection).await.0, b"hello");
        server.relay.heal();
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_one_by_both() {
    let mut server = Echo::start().await;
    let (mut client, connection) = server.open().await;
    server.relay.reset();
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(rest(&mut client).await, (Vec::new(), reset));
    assert_eq!(served(connection).await, (b"hello".to_vec(), reset));
    server.open().await;
}

#[tokio::test]
async fn half_open_connections_can_be_cut_and_reset() {
    let mut server = Echo::start().await;
    let (mut client, connection) = server.open().await;
    server.relay.set(Fault::HalfOpen);
    server.relay.cut();
    assert_eq!(rest(&mut client).await, (Vec::new(), Ok(())));
    assert_eq!(served(connection).await, (b"hello".to_vec(), Ok(())));

    // This one has not reached the server.
    let mut client = server.connect().await;
    soon(server.relay.wait_for_connections(2)).await;
    server.relay.reset();
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(rest(&mut client).await, (Vec::new(), reset));
}

#[tokio::test]
async fn swallowed_connections_stay_half_open_beside_new_ones_that_work() {
    let mut server = Echo::start().await;
    let (mut old, connection) = server.open().await;
    server.relay.swallow();
    old.write_all(b"lost").await.unwrap();
    let (mut new, _) = server.open().await;
    // Nothing heals it.
    server.relay.heal();
    echoes(&mut new, b"new").await;
    is_silent(&old);
    assert_eq!(server.forwarded(), (13, 13));
    drop(old);
    server.settle().await;
    assert!(!connection.is_finished());

    // It can still be reset, as by a server's machine that has been started anew.
    server.relay.reset();
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(served(connection).await, (b"hello".to_vec(), reset));
}

#[tokio::test]
async fn a_cut_after_some_bytes_lets_through_exactly_those() {
    for direction in [ToServer, ToClient] {
        let mut server = Echo::start().await;
        let (mut client, connection) = server.open().await;
        server.relay.cut_after(1_000, direction);
        echoes(&mut client, &some_bytes(900)).await;
        client.write_all(&some_bytes(900)).await.unwrap();
        let (answered, end) = rest(&mut client).await;
        assert_eq!(end, Ok(()));
        let (received, end) = served(connection).await;
        assert_eq!(end, Ok(()));
        let came = match direction {
            Direction::ToServer => received.len() - 5 - 900,
            Direction::ToClient => answered.len(),
        };
        assert_eq!(came, 100, "{direction:?}");
        assert_eq!(server.relay.forwarded(direction), 1_005);

        // It does so once.
        let (mut client, _) = server.open().await;
        echoes(&mut client, &some_bytes(5_000)).await;
    }
}

#[tokio::test]
async fn what_cannot_pass_waits_with_its_sender() {
    let faults = [
        Fault::HalfOpen,
        Fault::OneWay(ToClient),
        Fault::Delay(Duration::from_secs(3600)),
        Fault::Throttle {
            bytes_per_second: 1,
        },
    ];
    let bytes = some_bytes(1 << 20);
    for fault in faults {
        let mut server = Echo::start().await;
        let (mut client, _) = server.open().await;
        server.relay.set(fault);
        let mut sent = 0;
        while let Ok(written) = timeout(Duration::from_millis(200), client.write(&bytes)).await {
            sent += written.unwrap();
            assert!(sent < MORE_THAN_FITS, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn the_end_of_the_relay_ends_all_that_is_its() {
    let alive_tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let mut server = Echo::start().await;
    let (mut open, _) = server.open().await;
    let (mut cut, _) = server.open().await;
    server.relay.cut();
    let (mut swallowed, _) = server.open().await;
    server.relay.swallow();
    server.relay.set(Fault::HalfOpen);
    let mut half_open = server.connect().await;
    soon(server.relay.wait_for_connections(4)).await;
    let address = server.relay.addr();
    drop(server.relay);
    // What is left is the task that accepts the server's connections.
    until(|| alive_tasks() == 1).await;
    for client in [&mut open, &mut cut, &mut swallowed, &mut half_open] {
        let _ended = rest(client).await;
    }
    assert!(TcpStream::connect(address).await.is_err());
}

//! Streams in all places, and their implementations as users write them.

#![deny(warnings)]

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use wirecall::{
    BySender, CallError, Context, DuplexCall, Peer, Status, StreamCall, Streaming, UploadCall,
};

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize, wirecall::RpcError)]
#[error("failed")]
struct Failed;

#[wirecall::service]
trait Down {
    fn primes(&self, limit: u64) -> impl Stream<Item = u64>;
    async fn borrowed(&self, cx: &Context, room: &str) -> impl Stream<Item = String>;
    async fn follow(
        &self,
        cx: &Context,
        room: &str,
    ) -> Result<impl Stream<Item = String>, Failed>;
    fn fallible(&self) -> impl futures::Stream<Item = Result<u64, Failed>> + Send;
    async fn both(&self) -> Result<impl Stream<Item = Result<u64, Failed>> + Unpin + Send, Failed>;
    fn refused(&self, room: &str) -> Result<impl Stream<Item = u64>, Failed>;

    fn by_default(&self, count: u64) -> impl Stream<Item = u64> {
        stream::iter(0..count)
    }
    async fn by_default_later(
        &self,
        count: u64,
    ) -> Result<impl Stream<Item = Result<u64, Failed>>, Failed> {
        if count == 0 {
            return Err(Failed);
        }
        self.refused("").map(drop)?;
        Ok(stream::iter(0..count).map(Ok))
    }
    #[rpc(credit(items = 64, bytes = 1_048_576))]
    fn with_credit(&self) -> impl Stream<Item = u64>;
}

struct Service {
    numbers: Vec<u64>,
}

impl Down for Service {
    fn primes(&self, limit: u64) -> impl Stream<Item = u64> {
        // Borrows the service.
        stream::iter(self.numbers.iter().copied()).take_while(move |n| {
            let is_in = *n <= limit;
            async move { is_in }
        })
    }

    async fn borrowed(&self, cx: &Context, room: &str) -> impl Stream<Item = String> {
        // Borrows the arguments.
        let _ = cx.peer();
        stream::iter(room.split(' ').map(str::to_owned))
    }

    async fn follow(
        &self,
        _cx: &Context,
        room: &str,
    ) -> Result<impl Stream<Item = String>, Failed> {
        if room.is_empty() {
            return Err(Failed);
        }
        tokio::task::yield_now().await;
        Ok(stream::iter([room.to_owned()]))
    }

    fn fallible(&self) -> impl Stream<Item = Result<u64, Failed>> {
        stream::iter([Ok(1), Err(Failed)])
    }

    async fn both(&self) -> Result<impl Stream<Item = Result<u64, Failed>> + Unpin, Failed> {
        Ok(stream::iter([Ok(1), Err(Failed)]))
    }

    fn refused(&self, room: &str) -> Result<impl Stream<Item = u64>, Failed> {
        let _ = room;
        Ok(stream::empty())
    }

    fn with_credit(&self) -> impl Stream<Item = u64> {
        stream::empty()
    }
}

/// What is boxed is a stream too.
struct Boxed;

impl Down for Boxed {
    #[allow(refining_impl_trait)]
    fn primes(&self, _limit: u64) -> Pin<Box<dyn Stream<Item = u64> + Send>> {
        Box::pin(stream::empty())
    }
    async fn borrowed(&self, _cx: &Context, _room: &str) -> impl Stream<Item = String> {
        stream::empty()
    }
    async fn follow(
        &self,
        _cx: &Context,
        _room: &str,
    ) -> Result<impl Stream<Item = String>, Failed> {
        Ok(stream::empty())
    }
    fn fallible(&self) -> impl Stream<Item = Result<u64, Failed>> {
        stream::empty()
    }
    async fn both(&self) -> Result<impl Stream<Item = Result<u64, Failed>> + Unpin, Failed> {
        Ok(stream::empty())
    }
    fn refused(&self, _room: &str) -> Result<impl Stream<Item = u64>, Failed> {
        Ok(stream::empty())
    }
    fn with_credit(&self) -> impl Stream<Item = u64> {
        stream::empty()
    }
}

#[wirecall::service]
trait Up {
    async fn count(&self, lines: Streaming<String>) -> u64;
    /// Documented.
    async fn between(
        &self,
        cx: &Context,
        room: &str,
        lines: wirecall::Streaming<(u64, String)>,
        times: u64,
    ) -> Result<u64, Failed>;
    async fn bytes(&self, pieces: Streaming<wirecall::Bytes>);
    #[rpc(credit(items = 1), spawn, name = "slow")]
    async fn slowly(&self, r#type: Streaming<u8>) -> u64;
    fn echo(&self, lines: Streaming<String>) -> impl Stream<Item = Result<String, Status>>;
    #[rpc(credit(bytes = 4_294_967_295))]
    async fn echo_in(
        &self,
        room: &str,
        lines: Streaming<String>,
    ) -> Result<impl Stream<Item = Result<String, Status>>, Status>;
    #[rustfmt::skip]
    async fn twelve_and_a_stream(
        &self, lines: Streaming<u8>,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8,
    ) {
        let _ = (lines, a, b, c, d, e, f, g, h, i, j, k, l);
    }
}

impl Up for Service {
    async fn count(&self, lines: Streaming<String>) -> u64 {
        lines.count().await as u64
    }
    async fn between(
        &self,
        _cx: &Context,
        room: &str,
        mut lines: Streaming<(u64, String)>,
        times: u64,
    ) -> Result<u64, Failed> {
        let mut sum = room.len() as u64;
        while let Some(line) = lines.next().await {
            sum += line.map_err(|_| Failed)?.0 * times;
        }
        Ok(sum)
    }
    async fn bytes(&self, _pieces: Streaming<wirecall::Bytes>) {}
    async fn slowly(&self, r#type: Streaming<u8>) -> u64 {
        r#type.count().await as u64
    }
    fn echo(&self, lines: Streaming<String>) -> impl Stream<Item = Result<String, Status>> {
        lines
    }
    async fn echo_in(
        &self,
        room: &str,
        lines: Streaming<String>,
    ) -> Result<impl Stream<Item = Result<String, Status>>, Status> {
        let room = room.to_owned();
        Ok(lines.map(move |line| Ok(format!("{room}: {}", line?))))
    }
}

#[wirecall::service]
pub trait Generic<S>
where
    S: Clone,
{
    fn all(&self, first: &S) -> impl Stream<Item = S>;
    async fn add(&self, values: Streaming<S>);
    fn map(&self, values: Streaming<S>, like: &str) -> impl Stream<Item = Result<S, Status>>;
}

#[wirecall::service]
trait Configured {
    #[cfg(all())]
    fn either(&self) -> impl Stream<Item = u8>;
    #[cfg(not(all()))]
    #[rpc(credit(items = 2))]
    fn either(&self) -> impl Stream<Item = NoSuchType>;
    #[cfg(any())]
    async fn not_there(&self, lines: Streaming<NoSuchType>);
}

macro_rules! contract {
    ($name:ident, $down:ty, $up:ty) => {
        #[wirecall::service]
        trait $name {
            async fn both(&self, values: $up) -> Vec<$down>;
        }
    };
}
contract!(ByMacro, u64, Streaming<u64>);

/// All of it can be named.
async fn calls(peer: &Peer) {
    let down = DownClient::new(peer);
    let primes: StreamCall<(u64,), u64> = down.primes(5);
    let primes = primes.timeout(std::time::Duration::from_secs(1)).start();
    drop(primes.await.unwrap());
    let _: StreamCall<(&str,), String, Failed> = down.follow("lobby");
    let failed: CallError<Failed> = down.follow("").await.unwrap_err();
    drop(failed);

    let up = UpClient::new(peer);
    let count: UploadCall<_, _, String, u64> = up.count(stream::iter([String::new()]));
    count.await.unwrap();
    let (mut sender, answer) = up.between("a", BySender, 2).open().await.unwrap();
    sender.send((1, String::new())).await.unwrap();
    sender.finish();
    answer.await.unwrap();
    let _: DuplexCall<(&str,), _, String, String, Status> = 
        up.echo_in("", stream::empty::<String>());
    let (_sender, answer) = up.echo(BySender).open().await.unwrap();
    let _ = answer.await.unwrap().next().await;

    let generic = GenericClient::<String>::new(peer);
    let _ = generic.map(stream::empty(), "").await;
    let _ = generic.all(&String::new()).await;
    let _ = ByMacroClient::new(peer).both(stream::empty()).await;
}

fn is_send<F: Send>(_: F) {}

fn main() {
    use wirecall::Service as _;

    let service = std::sync::Arc::new(Service { numbers: vec![2] });
    let up = UpServer::from_arc(service.clone());
    let described = |index: usize| format!("{:?}", up.methods()[index]);
    let default = wirecall::StreamCredit::default();
    assert!(described(0).contains("ClientStreaming"));
    assert!(described(3).contains(&format!("items: 1, bytes: {}", default.bytes)));
    assert!(described(4).contains("Bidirectional"));
    assert!(described(5).contains(&format!("items: {}, bytes: {}", default.items, u32::MAX)));
    let down = format!("{:?}", DownServer::from_arc(service).methods()[8]);
    assert!(down.contains("ServerStreaming") && down.contains("items: 64, bytes: 1048576"));
    let _ = DownServer::new(Boxed);
    let _ = |peer: Peer| is_send(async move { calls(&peer).await });
}

//! tarpc over TCP with bincode.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use futures::StreamExt as _;
use tarpc::{
    client, context,
    serde_transport::{self, Transport},
    server::{self, BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::yield_now,
};

use super::{Peer, large_body};
use crate::scenario::{LARGE_BYTES, Scenario, Work};

#[derive(Clone)]
pub(crate) struct Tarpc(BenchClient);

#[tarpc::service]
trait Bench {
    async fn add(a: i64, b: i64) -> i64;
    async fn echo(body: Bytes) -> Bytes;
    async fn echo_after_waiting(body: Bytes) -> Bytes;
    async fn download() -> Bytes;
    async fn upload(body: Bytes) -> u64;
}

#[derive(Clone)]
struct Implementation;

impl Bench for Implementation {
    async fn add(self, _: context::Context, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    async fn echo(self, _: context::Context, body: Bytes) -> Bytes {
        body
    }

    async fn echo_after_waiting(self, _: context::Context, body: Bytes) -> Bytes {
        yield_now().await;
        body
    }

    async fn download(self, _: context::Context) -> Bytes {
        large_body()
    }

    async fn upload(self, _: context::Context, body: Bytes) -> u64 {
        body.len() as u64
    }
}

/// More than any scenario has in flight.
const IN_FLIGHT: usize = 4096;

impl Peer for Tarpc {
    /// It has neither streams nor calls from the server.
    fn can(work: Work) -> bool {
        !matches!(work, Work::Push { .. } | Work::Latest | Work::Stream)
    }

    async fn serve(listener: TcpListener, _: Scenario) -> Result<()> {
        let config = server::Config {
            pending_response_buffer: IN_FLIGHT,
        };
        loop {
            let stream = listener.accept().await?.0;
            let channel = BaseChannel::new(config.clone(), transport(stream)?);
            let requests = channel.execute(Implementation.serve());
            tokio::spawn(requests.for_each(|handler| async move {
                tokio::spawn(handler);
            }));
        }
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let mut config = client::Config::default();
        config.max_in_flight_requests = IN_FLIGHT;
        config.pending_request_buffer = IN_FLIGHT;
        Ok(Tarpc(BenchClient::new(config, transport(stream)?).spawn()))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        Ok(self.0.echo(context::current(), body.clone()).await?)
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(self.0.add(context::current(), a, b).await?)
    }

    async fn echo_after_waiting(&mut self, body: &Bytes) -> Result<Bytes> {
        let echo = self.0.echo_after_waiting(context::current(), body.clone());
        Ok(echo.await?)
    }

    async fn download(&mut self) -> Result<usize> {
        Ok(self.0.download(context::current()).await?.len())
    }

    async fn upload(&mut self, body: &Bytes) -> Result<usize> {
        let received = self.0.upload(context::current(), body.clone()).await?;
        Ok(received.try_into()?)
    }
}

fn transport<Item, SinkItem>(
    stream: TcpStream,
) -> Result<Transport<TcpStream, Item, SinkItem, Bincode<Item, SinkItem>>>
where
    Item: for<'de> serde::Deserialize<'de>,
    SinkItem: serde::Serialize,
{
    stream.set_nodelay(true)?;
    let framed = LengthDelimitedCodec::builder()
        .max_frame_length(2 * LARGE_BYTES)
        .new_framed(stream);
    Ok(serde_transport::new(framed, Bincode::default()))
}

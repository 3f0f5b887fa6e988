//! gRPC by tonic, with messages by prost.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use anyhow::Result;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::yield_now,
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use self::protocol::{
    bench_client::BenchClient,
    bench_server::{Bench, BenchServer},
};
use super::{
    Peer, QUEUED_NOTIFICATIONS, audience, large_body, notification_body, publish_to_queues,
};
use crate::{
    measure::Tally,
    scenario::{LARGE_BYTES, Scenario, Way, Work},
};

/// What `build.rs` has written.
#[allow(unreachable_pub)]
mod protocol {
    include!(concat!(env!("OUT_DIR"), "/bench.Bench.rs"));
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Numbers {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(int64, tag = "2")]
    b: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Size {
    #[prost(uint64, tag = "1")]
    value: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

#[derive(Clone)]
pub(crate) struct Tonic(BenchClient<Channel>);

struct Implementation {
    subscribe: mpsc::UnboundedSender<mpsc::Sender<Body>>,
}

type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Bench for Implementation {
    type NumbersStream = Streaming<Size>;
    type SubscribeStream = Streaming<Body>;

    async fn add(&self, request: Request<Numbers>) -> Result<Response<Number>, Status> {
        let Numbers { a, b } = request.into_inner();
        let value = a.wrapping_add(b);
        Ok(Response::new(Number { value }))
    }

    async fn echo(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn echo_after_waiting(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        yield_now().await;
        Ok(Response::new(request.into_inner()))
    }

    async fn download(&self, _: Request<Nothing>) -> Result<Response<Body>, Status> {
        let bytes = large_body();
        Ok(Response::new(Body { bytes }))
    }

    async fn upload(&self, request: Request<Body>) -> Result<Response<Size>, Status> {
        let value = request.into_inner().bytes.len() as u64;
        Ok(Response::new(Size { value }))
    }

    async fn numbers(
        &self,
        _: Request<Nothing>,
    ) -> Result<Response<Self::NumbersStream>, Status> {
        let numbers = stream::iter(0..).map(|value| Ok(Size { value }));
        Ok(Response::new(numbers.boxed()))
    }

    async fn subscribe(
        &self,
        _: Request<Nothing>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (queue, queued) = mpsc::channel(QUEUED_NOTIFICATIONS);
        let _ = self.subscribe.send(queue);
        let notifications = stream::unfold(queued, async |mut queued| {
            let notification = queued.recv().await?;
            Some((Ok(notification), queued))
        });
        Ok(Response::new(notifications.boxed()))
    }
}

/// More than any scenario has in flight.
const IN_FLIGHT: u32 = 4096;

/// What may be on its way before the receiver has said that it takes more: enough for loopback to
/// stay busy, also with a body that is large.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The largest body and what is around it.
const MAX_MESSAGE_BYTES: usize = 2 * LARGE_BYTES;

impl Peer for Tonic {
    fn can(work: Work) -> bool {
        work != Work::Latest
    }

    async fn serve(listener: TcpListener, scenario: Scenario) -> Result<()> {
        let (subscribe, audience) = audience(&scenario);
        let bytes = notification_body();
        tokio::spawn(publish_to_queues(audience, Body { bytes }));
        let service = BenchServer::new(Implementation { subscribe })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Server::builder()
            .max_concurrent_streams(IN_FLIGHT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
            .await?;
        Ok(())
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .buffer_size(IN_FLIGHT as usize)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await?;
        let client = BenchClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Tonic(client))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        let bytes = body.clone();
        let echo = self.0.echo(Body { bytes }).await?;
        Ok(echo.into_inner().bytes)
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let sum = self.0.add(Numbers { a, b }).await?;
        Ok(sum.into_inner().value)
    }

    async fn echo_after_waiting(&mut self, body: &Bytes) -> Result<Bytes> {
        let bytes = body.clone();
        let echo = self.0.echo_after_waiting(Body { bytes }).await?;
        Ok(echo.into_inner().bytes)
    }

    async fn download(&mut self) -> Result<usize> {
        let body = self.0.download(Nothing {}).await?;
        Ok(body.into_inner().bytes.len())
    }

    async fn upload(&mut self, body: &Bytes) -> Result<usize> {
        let bytes = body.clone();
        let size = self.0.upload(Body { bytes }).await?;
        Ok(size.into_inner().value.try_into()?)
    }

    async fn count_items(&mut self, tally: &Tally) -> Result<()> {
        let mut numbers = self.0.numbers(Nothing {}).await?.into_inner();
        while numbers.message().await?.is_some() {
            tally.add(1);
        }
        Ok(())
    }

    async fn count_pushes(address: SocketAddr, _: Way, tally: Arc<Tally>) -> Result<()> {
        let mut client = Tonic::connect(address).await?.0;
        let mut notifications = client.subscribe(Nothing {}).await?.into_inner();
        while notifications.message().await?.is_some() {
            tally.add(1);
        }
        Ok(())
    }
}

//! JSON-RPC over a WebSocket by jsonrpsee. Bytes travel in base64, as JSON has none.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionSink,
    core::{
        RpcResult, SubscriptionResult, async_trait,
        client::Subscription,
    },
    proc_macros::rpc,
    server::{Server, ServerConfig, SubscriptionMessage, TrySendError},
    ws_client::{WsClient, WsClientBuilder},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::{net::TcpListener, sync::mpsc, task::yield_now};

use super::{Audience, Peer, audience, large_body, notification_body};
use crate::{
    measure::Tally,
    scenario::{LARGE_BYTES, Scenario, Way, Work},
};

#[derive(Clone)]
pub(crate) struct Jsonrpsee(Arc<WsClient>);

#[rpc(client, server)]
trait Bench {
    #[method(name = "add")]
    async fn add(&self, a: i64, b: i64) -> RpcResult<i64>;

    #[method(name = "echo")]
    async fn echo(&self, body: Base64) -> RpcResult<Base64>;

    #[method(name = "echo_after_waiting")]
    async fn echo_after_waiting(&self, body: Base64) -> RpcResult<Base64>;

    #[method(name = "download")]
    async fn download(&self) -> RpcResult<Base64>;

    #[method(name = "upload")]
    async fn upload(&self, body: Base64) -> RpcResult<u64>;

    #[subscription(name = "subscribe_numbers", item = u64)]
    async fn numbers(&self) -> SubscriptionResult;

    #[subscription(name = "subscribe_notifications", item = Base64)]
    async fn notifications(&self) -> SubscriptionResult;
}

#[derive(Clone)]
pub(crate) struct Base64(Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Base64(bytes.into()))
    }
}

struct Implementation {
    subscribe: mpsc::UnboundedSender<SubscriptionSink>,
}

#[async_trait]
impl BenchServer for Implementation {
    async fn add(&self, a: i64, b: i64) -> RpcResult<i64> {
        Ok(a.wrapping_add(b))
    }

    async fn echo(&self, body: Base64) -> RpcResult<Base64> {
        Ok(body)
    }

    async fn echo_after_waiting(&self, body: Base64) -> RpcResult<Base64> {
        yield_now().await;
        Ok(body)
    }

    async fn download(&self) -> RpcResult<Base64> {
        Ok(Base64(large_body()))
    }

    async fn upload(&self, body: Base64) -> RpcResult<u64> {
        Ok(body.0.len() as u64)
    }

    async fn numbers(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let sink = pending.accept().await?;
        for number in 0_u64.. {
            let item = SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), &number)?;
            sink.send(item).await?;
        }
        Ok(())
    }

    async fn notifications(&self, pending: PendingSubscriptionSink) -> SubscriptionResult {
        let _ = self.subscribe.send(pending.accept().await?);
        Ok(())
    }
}

/// More connections and more calls in flight than any scenario has.
const CONNECTIONS: u32 = 10_000;
const IN_FLIGHT: usize = 4096;

/// Items that may wait for their consumer. The client ends a subscription with more of them.
const QUEUED_ITEMS: usize = 1 << 20;

/// The largest body in base64, and what is around it.
const MAX_MESSAGE_BYTES: u32 = 2 * LARGE_BYTES as u32;

impl Peer for Jsonrpsee {
    fn can(work: Work) -> bool {
        work != Work::Latest
    }

    async fn serve(listener: TcpListener, scenario: Scenario) -> Result<()> {
        let (subscribe, audience) = audience(&scenario);
        tokio::spawn(publish(audience));
        let config = ServerConfig::builder()
            .ws_only()
            .max_connections(CONNECTIONS)
            .max_request_body_size(MAX_MESSAGE_BYTES)
            .max_response_body_size(MAX_MESSAGE_BYTES)
            .set_message_buffer_capacity(IN_FLIGHT as u32)
            .set_tcp_no_delay(true)
            .build();
        let server = Server::builder()
            .set_config(config)
            .build_from_tcp(listener.into_std()?)?;
        server.start(Implementation { subscribe }.into_rpc()).stopped().await;
        Ok(())
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        let client = WsClientBuilder::default()
            .max_request_size(MAX_MESSAGE_BYTES)
            .max_response_size(MAX_MESSAGE_BYTES)
            .max_frame_size(MAX_MESSAGE_BYTES)
            .max_concurrent_requests(IN_FLIGHT)
            .max_buffer_capacity_per_subscription(QUEUED_ITEMS)
            .set_tcp_no_delay(true)
            .build(format!("ws://{address}"))
            .await?;
        Ok(Jsonrpsee(Arc::new(client)))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        Ok(self.0.echo(Base64(body.clone())).await?.0)
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(self.0.add(a, b).await?)
    }

    async fn echo_after_waiting(&mut self, body: &Bytes) -> Result<Bytes> {
        Ok(self.0.echo_after_waiting(Base64(body.clone())).await?.0)
    }

    async fn download(&mut self) -> Result<usize> {
        Ok(self.0.download().await?.0.len())
    }

    async fn upload(&mut self, body: &Bytes) -> Result<usize> {
        Ok(self.0.upload(Base64(body.clone())).await?.try_into()?)
    }

    async fn count_items(&mut self, tally: &Tally) -> Result<()> {
        count(self.0.numbers().await?, tally).await
    }

    async fn count_pushes(address: SocketAddr, _: Way, tally: Arc<Tally>) -> Result<()> {
        let client = Jsonrpsee::connect(address).await?.0;
        count(client.notifications().await?, &tally).await
    }
}

async fn count<T: serde::de::DeserializeOwned>(mut items: Subscription<T>, tally: &Tally) -> Result<()> {
    while let Some(item) = items.next().await {
        item?;
        tally.add(1);
    }
    bail!("the subscription has ended")
}

/// Encoded for each subscriber: the message names its subscription.
async fn publish(audience: Audience<SubscriptionSink>) -> Result<()> {
    let (mut sinks, burst) = audience.complete().await;
    let body = Base64(notification_body());
    loop {
        for _ in 0..burst {
            for sink in &mut sinks {
                let notification =
                    SubscriptionMessage::new(sink.method_name(), sink.subscription_id(), &body)?;
                // `send` alone would let others run now and then, in the middle of a burst.
                match sink.try_send(notification) {
                    Err(TrySendError::Full(notification)) => sink.send(notification).await?,
                    sent => sent?,
                }
            }
        }
        yield_now().await;
    }
}

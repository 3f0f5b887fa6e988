//! Wirecall, with limits that no scenario comes up against.

pub(crate) mod follow;
mod publish;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::{net::TcpListener, sync::mpsc, task::yield_now};
use wirecall::{Client, Context, Hub, Limits, Peer as Connection, Server, Topic};

use super::{Peer, audience, large_body};
use crate::{
    measure::Tally,
    scenario::{Scenario, Way, Work},
};
use publish::{BULK, NEWS, Pace};

/// As it is by default: a session goes on when its connection breaks.
pub(crate) type Wirecall = Resumable<true>;

#[derive(Clone)]
pub(crate) struct Resumable<const RESUMES: bool>(BenchClient);

/// What the server does.
#[wirecall::service]
pub(crate) trait Bench {
    async fn add(&self, a: i64, b: i64) -> i64;
    async fn echo(&self, body: &[u8]) -> wirecall::Bytes;
    async fn echo_after_waiting(&self, body: &[u8]) -> wirecall::Bytes;
    async fn download(&self) -> wirecall::Bytes;
    async fn upload(&self, body: &[u8]) -> u64;
    fn numbers(&self) -> impl Stream<Item = u64>;
    async fn subscribe(&self, cx: &Context);
    async fn news(&self) -> Topic<wirecall::Bytes>;
    async fn bulk(&self) -> Topic<wirecall::Bytes>;
    #[notify]
    async fn taken(&self, block: u64);
}

/// What the server tells its clients.
#[wirecall::service]
trait BenchEvents {
    #[notify]
    async fn published(&self, body: &[u8]);
}

/// More calls than any scenario has in flight, and large bodies with what is around them.
fn limits() -> Limits {
    Limits::default()
        .max_in_flight(4096_usize)
        .max_body_bytes(32_usize << 20)
        .max_assembly_bytes(64_usize << 20)
}

struct Implementation {
    subscribe: mpsc::UnboundedSender<Connection>,
    hub: Hub,
    pace: Arc<Pace>,
}

impl Bench for Implementation {
    async fn add(&self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    async fn echo(&self, body: &[u8]) -> wirecall::Bytes {
        body.into()
    }

    async fn echo_after_waiting(&self, body: &[u8]) -> wirecall::Bytes {
        yield_now().await;
        body.into()
    }

    async fn download(&self) -> wirecall::Bytes {
        large_body().into()
    }

    async fn upload(&self, body: &[u8]) -> u64 {
        body.len() as u64
    }

    fn numbers(&self) -> impl Stream<Item = u64> {
        stream::iter(0..)
    }

    async fn subscribe(&self, cx: &Context) {
        let _ = self.subscribe.send(cx.peer().clone());
    }

    async fn news(&self) -> Topic<wirecall::Bytes> {
        self.hub.topic(NEWS)
    }

    async fn bulk(&self) -> Topic<wirecall::Bytes> {
        self.hub.topic(BULK)
    }

    async fn taken(&self, block: u64) {
        self.pace.note(block);
    }
}

struct Subscriber(Arc<Tally>);

impl BenchEvents for Subscriber {
    async fn published(&self, _body: &[u8]) {
        self.0.add(1);
    }
}

impl<const RESUMES: bool> Peer for Resumable<RESUMES> {
    fn can(_: Work) -> bool {
        true
    }

    async fn serve(listener: TcpListener, scenario: Scenario) -> Result<()> {
        let (subscribe, audience) = audience(&scenario);
        let hub = Hub::new();
        let pace = Arc::new(Pace::of(&scenario));
        publish::declare_topics(&hub, scenario.work);
        tokio::spawn({
            let (hub, pace) = (hub.clone(), pace.clone());
            async move { publish::publish(hub, scenario, audience, &pace).await }
        });
        let server = Server::builder()
            .hub(&hub)
            .service(BenchServer::new(Implementation {
                subscribe,
                hub,
                pace,
            }))
            .limits(limits())
            .build()?;
        server.and_listen(listener).run().await;
        Ok(())
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Resumable(dial(address, RESUMES).await?))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        Ok(self.0.echo(body).await?.into())
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        Ok(self.0.add(a, b).await?)
    }

    async fn echo_after_waiting(&mut self, body: &Bytes) -> Result<Bytes> {
        Ok(self.0.echo_after_waiting(body).await?.into())
    }

    async fn download(&mut self) -> Result<usize> {
        Ok(self.0.download().await?.len())
    }

    async fn upload(&mut self, body: &Bytes) -> Result<usize> {
        Ok(self.0.upload(body).await?.try_into()?)
    }

    async fn count_items(&mut self, tally: &Tally) -> Result<()> {
        let mut numbers = self.0.numbers().await?;
        while let Some(number) = numbers.next().await {
            number?;
            tally.add(1);
        }
        Ok(())
    }

    async fn count_pushes(address: SocketAddr, way: Way, tally: Arc<Tally>) -> Result<()> {
        if way == Way::Topic {
            return follow::count_all(address, RESUMES, &tally).await;
        }
        let mut builder = Client::builder(format!("ws://{address}"))
            .serve(BenchEventsServer::new(Subscriber(tally)));
        if !RESUMES {
            builder = builder.no_reconnect();
        }
        let client = builder.connect().await?;
        BenchClient::new(&client).subscribe().await?;
        let reason = client.closed().await;
        anyhow::bail!("the connection has ended: {reason:?}")
    }

    async fn count_latest(
        address: SocketAddr,
        tally: Arc<Tally>,
        newest: Arc<AtomicU64>,
    ) -> Result<()> {
        follow::count_latest(address, RESUMES, &tally, &newest).await
    }
}

/// A typed client of its own connection.
pub(crate) async fn dial(address: SocketAddr, resumes: bool) -> Result<BenchClient> {
    Ok(BenchClient::new(&connect(address, resumes).await?))
}

async fn connect(address: SocketAddr, resumes: bool) -> Result<Client> {
    let mut builder = Client::builder(format!("ws://{address}")).limits(limits());
    if !resumes {
        builder = builder.no_reconnect();
    }
    builder.connect().await.context("cannot connect")
}

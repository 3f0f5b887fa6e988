//! A bare WebSocket by tokio-tungstenite, one message for each echo: what anything over that crate
//! is measured against.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    task::yield_now,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async, client_async,
    tungstenite::{self, Message},
};

use super::{
    Peer, QUEUED_NOTIFICATIONS, audience, notification_body, pipelined, publish_to_queues,
};
use crate::{
    measure::Tally,
    scenario::{Scenario, Way, Work},
};

type Channel = WebSocketStream<TcpStream>;

#[derive(Clone)]
pub(crate) struct RawTungstenite(Arc<Mutex<Channel>>);

/// Items of a stream that are fed before they are flushed.
const ITEMS_PER_FLUSH: u64 = 64;

impl Peer for RawTungstenite {
    const IS_PIPELINED: bool = true;

    fn can(work: Work) -> bool {
        matches!(
            work,
            Work::Echo { .. } | Work::Idle | Work::Push { .. } | Work::Stream
        )
    }

    async fn serve(listener: TcpListener, scenario: Scenario) -> Result<()> {
        let (subscribe, audience) = audience(&scenario);
        let notification = Message::Binary(notification_body());
        tokio::spawn(publish_to_queues(audience, notification));
        loop {
            let stream = listener.accept().await?.0;
            let (work, subscribe) = (scenario.work, subscribe.clone());
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let channel = accept_async(stream).await?;
                match work {
                    Work::Push { .. } => {
                        let (queue, queued) = mpsc::channel(QUEUED_NOTIFICATIONS);
                        subscribe.send(queue)?;
                        write_all(channel, queued).await
                    }
                    Work::Stream => write_items(channel).await,
                    _ => pipelined::echo_all(channel, |message| message).await,
                }
            });
        }
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(RawTungstenite(Arc::new(Mutex::new(dial(address).await?))))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        let mut channel = self.0.lock().await;
        channel.send(Message::Binary(body.clone())).await?;
        let echo = channel.next().await.context("the server has gone")??;
        Ok(echo.into_data())
    }

    async fn pipeline(&self, body: Bytes, in_flight: usize, tally: &Tally) -> Result<()> {
        let mut channel = self.0.lock().await;
        let message = Message::Binary(body.clone());
        let is_echo = |echo: &Message| matches!(echo, Message::Binary(echo) if *echo == body);
        pipelined::keep_in_flight(&mut *channel, message, in_flight, is_echo, tally).await
    }

    async fn count_items(&mut self, tally: &Tally) -> Result<()> {
        count(&mut *self.0.lock().await, tally).await
    }

    async fn count_pushes(address: SocketAddr, _: Way, tally: Arc<Tally>) -> Result<()> {
        count(&mut dial(address).await?, &tally).await
    }
}

async fn dial(address: SocketAddr) -> Result<Channel> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(client_async(format!("ws://{address}"), stream).await?.0)
}

async fn count(channel: &mut Channel, tally: &Tally) -> Result<()> {
    while let Some(message) = channel.next().await {
        message?;
        tally.add(1);
    }
    Ok(())
}

/// Writes what is queued, and flushes once for all that is. The publisher has its turn before.
async fn write_all(mut channel: Channel, mut queued: mpsc::Receiver<Message>) -> Result<()> {
    while let Some(message) = queued.recv().await {
        yield_now().await;
        channel.feed(message).await?;
        while let Ok(message) = queued.try_recv() {
            channel.feed(message).await?;
        }
        channel.flush().await?;
    }
    Ok(())
}

async fn write_items(mut channel: Channel) -> Result<()> {
    for number in 0_u64.. {
        let item = Bytes::copy_from_slice(&number.to_be_bytes());
        let sent: Result<(), tungstenite::Error> = if number % ITEMS_PER_FLUSH == 0 {
            channel.send(Message::Binary(item)).await
        } else {
            channel.feed(Message::Binary(item)).await
        };
        sent?;
    }
    Ok(())
}

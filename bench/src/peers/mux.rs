//! Calls over a bare WebSocket, multiplexed by hand: the best that is written in an afternoon.
//!
//! A message is a number, which says whose it is, and a body in MessagePack. Requests have a method
//! in between. A slab says who waits for which number.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use serde::{Serialize, de::DeserializeOwned};
use slab::Slab;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::yield_now,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async_with_config, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{Peer, audience, large_body, notification_body, publish_to_queues};
use crate::{
    measure::Tally,
    scenario::{LARGE_BYTES, Scenario, Way, Work},
};

type Socket = WebSocketStream<TcpStream>;
type Queue = mpsc::Sender<Message>;

/// Messages that may wait for the writer, and items that may wait for their consumer.
const QUEUED_MESSAGES: usize = 1024;

/// The number of messages that are nobody's answer.
const NOTIFICATION: u32 = u32::MAX;

const ADD: u8 = 0;
const ECHO: u8 = 1;
const ECHO_AFTER_WAITING: u8 = 2;
const DOWNLOAD: u8 = 3;
const UPLOAD: u8 = 4;
const NUMBERS: u8 = 5;
const SUBSCRIBE: u8 = 6;

#[derive(Clone)]
pub(crate) struct Mux {
    queue: Queue,
    waiting: Arc<Mutex<Slab<Waiter>>>,
}

/// Who waits for messages of a number.
enum Waiter {
    Answer(oneshot::Sender<Bytes>),
    Items(mpsc::Sender<Bytes>),
}

impl Peer for Mux {
    fn can(work: Work) -> bool {
        work != Work::Latest
    }

    async fn serve(listener: TcpListener, scenario: Scenario) -> Result<()> {
        let (subscribe, audience) = audience(&scenario);
        let notification = response(NOTIFICATION, &notification_body())?;
        tokio::spawn(publish_to_queues(audience, notification));
        loop {
            let stream = listener.accept().await?.0;
            let subscribe = subscribe.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let socket = accept_async_with_config(stream, Some(config())).await?;
                let (queue, reader) = start_writer(socket);
                read_requests(reader, queue, subscribe).await
            });
        }
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        dial(address, Arc::default()).await
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        self.call(ECHO, body).await
    }

    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        self.call(ADD, &(a, b)).await
    }

    async fn echo_after_waiting(&mut self, body: &Bytes) -> Result<Bytes> {
        self.call(ECHO_AFTER_WAITING, body).await
    }

    async fn download(&mut self) -> Result<usize> {
        let body: Bytes = self.call(DOWNLOAD, &()).await?;
        Ok(body.len())
    }

    async fn upload(&mut self, body: &Bytes) -> Result<usize> {
        self.call(UPLOAD, body).await
    }

    async fn count_items(&mut self, tally: &Tally) -> Result<()> {
        let (items, mut received) = mpsc::channel(QUEUED_MESSAGES);
        self.request(NUMBERS, &(), Waiter::Items(items)).await?;
        while let Some(item) = received.recv().await {
            let _: u64 = rmp_serde::from_slice(&item)?;
            tally.add(1);
        }
        Ok(())
    }

    async fn count_pushes(address: SocketAddr, _: Way, tally: Arc<Tally>) -> Result<()> {
        let mut client = dial(address, tally).await?;
        client.call::<_, ()>(SUBSCRIBE, &()).await?;
        client.queue.closed().await;
        bail!("the connection has ended")
    }
}

impl Mux {
    async fn call<A: Serialize, R: DeserializeOwned>(&mut self, method: u8, args: &A) -> Result<R> {
        let (answer, answered) = oneshot::channel();
        self.request(method, args, Waiter::Answer(answer)).await?;
        let body = answered.await.context("the connection has ended")?;
        Ok(rmp_serde::from_slice(&body)?)
    }

    async fn request<A: Serialize>(&self, method: u8, args: &A, waiter: Waiter) -> Result<()> {
        let id = lock(&self.waiting).insert(waiter);
        let mut request = BytesMut::with_capacity(64);
        request.put_u32(id.try_into()?);
        request.put_u8(method);
        let message = finish(request, args)?;
        self.queue
            .send(message)
            .await
            .map_err(|_| anyhow!("the connection has ended"))
    }
}

async fn dial(address: SocketAddr, notified: Arc<Tally>) -> Result<Mux> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{address}");
    let (socket, _) = client_async_with_config(url, stream, Some(config())).await?;
    let (queue, reader) = start_writer(socket);
    let waiting = Arc::default();
    tokio::spawn(read_answers(reader, Arc::clone(&waiting), notified));
    Ok(Mux { queue, waiting })
}

/// Messages with the largest body and what is around it.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(2 * LARGE_BYTES))
        .max_frame_size(Some(2 * LARGE_BYTES))
}

fn start_writer(socket: Socket) -> (Queue, SplitStream<Socket>) {
    let (writer, reader) = socket.split();
    let (queue, queued) = mpsc::channel(QUEUED_MESSAGES);
    tokio::spawn(write(writer, queued));
    (queue, reader)
}

async fn write(
    mut writer: SplitSink<Socket, Message>,
    mut queued: mpsc::Receiver<Message>,
) -> Result<()> {
    while let Some(message) = queued.recv().await {
        // Whoever else is about to send something can do so, and it is flushed together.
        yield_now().await;
        writer.feed(message).await?;
        while let Ok(message) = queued.try_recv() {
            writer.feed(message).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

async fn read_requests(
    mut reader: SplitStream<Socket>,
    queue: Queue,
    subscribe: mpsc::UnboundedSender<Queue>,
) -> Result<()> {
    while let Some(message) = reader.next().await {
        let Message::Binary(mut body) = message? else {
            continue;
        };
        let id = body.try_get_u32()?;
        let answer = match body.try_get_u8()? {
            ADD => {
                let (a, b): (i64, i64) = rmp_serde::from_slice(&body)?;
                response(id, &a.wrapping_add(b))?
            }
            ECHO => response(id, &rmp_serde::from_slice::<Bytes>(&body)?)?,
            ECHO_AFTER_WAITING => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    yield_now().await;
                    let answer = response(id, &rmp_serde::from_slice::<Bytes>(&body)?)?;
                    anyhow::Ok(queue.send(answer).await?)
                });
                continue;
            }
            DOWNLOAD => response(id, &large_body())?,
            UPLOAD => response(id, &rmp_serde::from_slice::<Bytes>(&body)?.len())?,
            NUMBERS => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        queue.send(response(id, &number)?).await?;
                    }
                    anyhow::Ok(())
                });
                continue;
            }
            SUBSCRIBE => {
                subscribe.send(queue.clone())?;
                response(id, &())?
            }
            method => bail!("there is no method {method}"),
        };
        queue.send(answer).await?;
    }
    Ok(())
}

async fn read_answers(
    mut reader: SplitStream<Socket>,
    waiting: Arc<Mutex<Slab<Waiter>>>,
    notified: Arc<Tally>,
) -> Result<()> {
    while let Some(message) = reader.next().await {
        let Message::Binary(mut body) = message? else {
            continue;
        };
        let id = body.try_get_u32()?;
        if id == NOTIFICATION {
            notified.add(1);
            continue;
        }
        let id = id as usize;
        let waiter = {
            let mut waiting = lock(&waiting);
            match waiting.get(id).context("an answer that nobody waits for")? {
                Waiter::Answer(_) => waiting.remove(id),
                Waiter::Items(items) => Waiter::Items(items.clone()),
            }
        };
        match waiter {
            // Fails when the caller has given up.
            Waiter::Answer(answer) => drop(answer.send(body)),
            // Holds up all others on the connection: credit is for another afternoon.
            Waiter::Items(items) => drop(items.send(body).await),
        }
    }
    Ok(())
}

fn response(id: u32, result: &impl Serialize) -> Result<Message> {
    let mut response = BytesMut::with_capacity(64);
    response.put_u32(id);
    finish(response, result)
}

/// Puts a body behind what is there.
fn finish(head: BytesMut, body: &impl Serialize) -> Result<Message> {
    let mut writer = head.writer();
    rmp_serde::encode::write(&mut writer, body)?;
    Ok(Message::Binary(writer.into_inner().freeze()))
}

fn lock(waiting: &Mutex<Slab<Waiter>>) -> std::sync::MutexGuard<'_, Slab<Waiter>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

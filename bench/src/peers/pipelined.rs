//! Echoes over a channel of messages, for peers that know no calls: many are fed, then flushed
//! once.

use std::{
    future::poll_fn,
    task::{Poll, ready},
};

use anyhow::{Context as _, Error, Result, ensure};
use futures::{FutureExt as _, Sink, SinkExt as _, Stream, StreamExt as _};

use crate::measure::Tally;

/// The server's end: sends back what comes, and flushes when nothing more is there.
pub(super) async fn echo_all<C, M, N, E>(mut channel: C, answer: impl Fn(M) -> N) -> Result<()>
where
    C: Stream<Item = Result<M, E>> + Sink<N, Error = E> + Unpin,
    Error: From<E>,
{
    while let Some(message) = channel.next().await {
        channel.feed(answer(message?)).await?;
        while let Some(Some(message)) = channel.next().now_or_never() {
            channel.feed(answer(message?)).await?;
        }
        channel.flush().await?;
    }
    Ok(())
}

/// The client's end: keeps `in_flight` messages on their way, for ever. It reads also while it
/// cannot write, since the server does not.
pub(super) async fn keep_in_flight<C, M, N, E>(
    channel: &mut C,
    message: N,
    in_flight: usize,
    is_echo: impl Fn(&M) -> bool,
    tally: &Tally,
) -> Result<()>
where
    C: Stream<Item = Result<M, E>> + Sink<N, Error = E> + Unpin,
    N: Clone,
    Error: From<E>,
{
    let mut sent = 0;
    poll_fn(|cx| {
        loop {
            while sent < in_flight && channel.poll_ready_unpin(cx)?.is_ready() {
                channel.start_send_unpin(message.clone())?;
                sent += 1;
            }
            // If it is pending, this task is woken when it can go on.
            let _ = channel.poll_flush_unpin(cx)?;
            let mut echo = ready!(channel.poll_next_unpin(cx));
            loop {
                ensure_echo(echo, &is_echo)?;
                tally.add(1);
                sent -= 1;
                match channel.poll_next_unpin(cx) {
                    Poll::Ready(next) => echo = next,
                    Poll::Pending => break,
                }
            }
        }
    })
    .await
}

fn ensure_echo<M, E>(message: Option<Result<M, E>>, is_echo: &impl Fn(&M) -> bool) -> Result<()>
where
    Error: From<E>,
{
    let message = message.context("the server has closed the connection")??;
    ensure!(is_echo(&message), "a wrong echo");
    Ok(())
}

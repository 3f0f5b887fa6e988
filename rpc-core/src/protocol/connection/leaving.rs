//! GOAWAY: one end asks the other to take its calls elsewhere.

use std::{collections::HashSet, time::Duration};

use super::{Connection, Phase, session::LONGEST};
use crate::{
    close::{CloseCode, CloseReason},
    protocol::{
        CallId, Frames,
        event::{Event, Events},
        frame::{Frame, Head},
        handshake,
        options::{OptionKey, OptionValue, OptionsBuilder},
    },
};

/// Options of GOAWAY.
const SPREAD_MS: u64 = 1;
const URL: u64 = 3;

/// One end asks the other to take its calls elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoAway {
    /// A close code: what to do.
    pub code: CloseCode,
    /// The last counted frame that was accepted. Calls behind it are refused.
    pub count: u64,
    /// A random point in this time is the right one to come back.
    pub spread: Duration,
    /// Where to go, if not to the same place.
    pub url: Option<String>,
}

/// Who has asked whom to go elsewhere.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The peer has asked this end.
    going: Option<Box<GoAway>>,
    /// This end has asked the peer. Kept to be said again on another socket.
    asked: Option<Box<GoAway>>,
}

impl Connection {
    /// Asks the peer to take its calls elsewhere: from now on they are refused here.
    pub(crate) fn go_away(&mut self, code: CloseCode, spread: Duration, url: Option<String>) {
        if self.leaving.asked.is_some() || self.closed.is_some() {
            return;
        }
        let leaving = GoAway {
            code,
            count: self.session.received,
            spread,
            url,
        };
        if !self.is_suspended() && self.phase == Phase::Open {
            self.push_go_away(&leaving);
        }
        self.leaving.asked = Some(Box::new(leaving));
    }

    /// Says again on another socket that this end takes no more calls, if it is so.
    pub(super) fn repeat_go_away(&mut self) {
        if let Some(asked) = self.leaving.asked.clone() {
            self.push_go_away(&asked);
        }
    }

    fn push_go_away(&mut self, leaving: &GoAway) {
        let mut options = OptionsBuilder::new(self.codec);
        if !leaving.spread.is_zero() {
            let spread = u64::try_from(leaving.spread.as_millis()).unwrap_or(u64::MAX);
            options.uint(SPREAD_MS, spread);
        }
        if let Some(url) = &leaving.url {
            options.text(URL, url);
        }
        let options = options.finish();
        let head = Head::GoAway {
            code: u64::from(leaving.code.value()),
            count: leaving.count,
        };
        self.outbox.push_control(&handshake::frame(head, &options));
    }

    /// Whether this end takes no more calls.
    #[inline]
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.asked.is_some()
    }

    /// The peer takes no more calls.
    pub(super) fn told_to_go(
        &mut self,
        frame: &Frame<'_>,
        code: u64,
        count: u64,
        events: &mut Events,
    ) {
        let mut going = GoAway {
            code: CloseCode::new(u16::try_from(code).unwrap_or(CloseCode::GOING_AWAY.value())),
            count,
            spread: Duration::ZERO,
            url: None,
        };
        for (key, value) in frame.options.entries() {
            match (key, value) {
                (OptionKey::Integer(SPREAD_MS), OptionValue::Uint(spread)) => {
                    going.spread = Duration::from_millis(spread).min(LONGEST);
                }
                (OptionKey::Integer(URL), OptionValue::Text(url)) => {
                    going.url = Some(url.into_owned());
                }
                _ => {}
            }
        }
        self.leaving.going = Some(Box::new(going));
        // Whoever waits for room is told that there will be none.
        self.calls_waiting.wake_all(&mut events.wakers);
        self.notify_waiting.wake_all(&mut events.wakers);
        events.queue.push(Event::GoAway);
    }

    /// What the peer has said, if it asks this end to take its calls elsewhere.
    #[must_use]
    #[inline]
    pub fn going(&self) -> Option<&GoAway> {
        self.leaving.going.as_deref()
    }

    /// Whether no more calls can be made here.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some() || self.closing.is_some() || self.leaving.going.is_some()
    }

    /// Why calls cannot be made here although the connection is open.
    pub(super) fn going_reason(&self) -> Option<CloseReason> {
        let going = self.leaving.going.as_ref()?;
        Some(CloseReason::local(
            going.code,
            "the peer takes no more calls on this connection",
        ))
    }

    /// This end's calls that the peer has said not to have accepted.
    pub(super) fn not_accepted(&self) -> HashSet<CallId> {
        let Some(going) = &self.leaving.going else {
            return HashSet::new();
        };
        let messages = self.outbox.messages_behind(going.count);
        let frames = messages.flat_map(|message| Frames::new(self.codec, message));
        let requests = frames.filter_map(|frame| match frame.ok()?.head {
            Head::Request { id, .. } => Some(id),
            _ => None,
        });
        requests.collect()
    }
}

//! Notifications that never wait for their sender's sake: what becomes of one for a peer that is
//! behind, and how what was kept for it goes once it has caught up.

use std::{cell::OnceCell, ops::Range, sync::Arc, task::Waker};

use bytes::Bytes;

use super::{Connection, Phase};
use crate::{
    body::Codec,
    method::Method,
    pressure::Pressure,
    priority::Priority,
    protocol::{
        backlog::{self, Backlog, Content, Joined, Key, Parcel},
        frame::{CallId, Frame, Head},
        large::FIRST_PIECE_BYTES,
    },
    status::{Code, Fate, Status},
};

/// Of the bytes that may wait to be written, as many as one in so many may be volatile, beside the
/// others.
const VOLATILE_PART: usize = 4;

/// So many that wait for credit are let in at a time.
const MAX_ADMITTED: usize = 16;

/// A notification for any number of peers with one codec.
#[derive(Debug)]
pub(crate) enum EncodedNotification {
    Frame(EncodedFrame),
    /// A body that goes in pieces.
    Large(Bytes),
}

/// The whole frame.
#[derive(Debug)]
pub(crate) struct EncodedFrame {
    bytes: Vec<u8>,
    /// Where the body stands.
    body: Range<usize>,
    /// The same bytes, for those peers for which it has to wait.
    shared: OnceCell<Bytes>,
}

/// What became of a notification for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is queued for writing.
    Queued,
    /// The peer is behind, and its method says nothing of that.
    Behind,
    /// It was dropped, as its method says.
    Dropped,
    /// It is kept until the peer has caught up, perhaps in the place of an earlier one.
    Waits { replaces: bool },
    /// The peer is behind, and its session is to end for that.
    Disconnect,
}

impl EncodedNotification {
    /// A NOTIFY or VOLATILE with this body. The frame is made anew, and the body taken out if it is
    /// large.
    pub(crate) fn new(codec: Codec, method: &Method, body: &mut Vec<u8>) -> Result<Self, Status> {
        let is_volatile = method.pressure() == Pressure::Volatile;
        if body.len() > FIRST_PIECE_BYTES {
            if is_volatile {
                return Err(too_large_for_volatile(method, body.len()));
            }
            return Ok(EncodedNotification::Large(std::mem::take(body).into()));
        }
        let method = method.reference(codec);
        let head = match is_volatile {
            true => Head::Volatile { method },
            false => Head::Notify { method },
        };
        let mut bytes = Vec::with_capacity(body.len() + 16);
        Frame::with_payload(head, body).encode(codec, &mut bytes);
        // In JSON a bracket stands behind it.
        let end = bytes.len() - usize::from(codec == Codec::Json);
        Ok(EncodedNotification::Frame(EncodedFrame {
            body: end - body.len()..end,
            bytes,
            shared: OnceCell::new(),
        }))
    }

    fn body(&self) -> &[u8] {
        match self {
            EncodedNotification::Frame(frame) => &frame.bytes[frame.body.clone()],
            EncodedNotification::Large(body) => body,
        }
    }

    /// What is kept of it for a peer.
    fn content(&self) -> Content {
        match self {
            EncodedNotification::Frame(frame) => {
                let shared = frame
                    .shared
                    .get_or_init(|| Bytes::copy_from_slice(&frame.bytes));
                Content::Frame(shared.clone())
            }
            EncodedNotification::Large(body) => Content::Large(body.clone()),
        }
    }
}

fn too_large_for_volatile(method: &Method, bytes: usize) -> Status {
    let message = format!(
        "a body of {bytes} bytes is larger than one frame takes, {FIRST_PIECE_BYTES}, and the \
         volatile {} has only one",
        method.name()
    );
    Status::new(Code::RESOURCE_EXHAUSTED, message).with_fate(Fate::NotSent)
}

impl Connection {
    /// Like [`Connection::notify`], for a notification that was encoded before, with this connection's
    /// codec and without options. It does not wait: what becomes of it instead, its method says.
    pub(crate) fn notify_encoded(
        &mut self,
        method: &Method,
        encoded: &EncodedNotification,
    ) -> Result<Told, Status> {
        self.check_outgoing(encoded.body().len())?;
        let pressure = method.pressure();
        if pressure != Pressure::Wait {
            return Ok(self.notify_under(pressure, method, encoded));
        }
        if !self.may_notify() {
            return Ok(Told::Behind);
        }
        self.send_encoded(method, encoded);
        Ok(Told::Queued)
    }

    fn notify_under(
        &mut self,
        pressure: Pressure,
        method: &Method,
        encoded: &EncodedNotification,
    ) -> Told {
        if pressure == Pressure::Volatile {
            return self.send_volatile(method, encoded);
        }
        // What waits of the same method goes before.
        if self.backlog.is_none() && self.may_notify() {
            self.send_encoded(method, encoded);
            return Told::Queued;
        }
        match pressure {
            Pressure::DropOldest | Pressure::Conflate(_) => self.keep(method, encoded),
            // There is no use in the end of a session that has not begun.
            Pressure::Disconnect if self.phase == Phase::Open || self.is_suspended() => {
                Told::Disconnect
            }
            _ => Told::Dropped,
        }
    }

    fn send_encoded(&mut self, method: &Method, encoded: &EncodedNotification) {
        match encoded {
            EncodedNotification::Frame(frame) => self.send_frame(method, &frame.bytes),
            EncodedNotification::Large(body) => self.send_large(method, body.clone()),
        }
    }

    #[inline]
    fn send_frame(&mut self, method: &Method, frame: &[u8]) {
        self.notify_credit -= 1;
        self.method_ref(method);
        self.outbox
            .push_encoded(Priority::Normal, CallId::CONNECTION, frame);
    }

    fn send_large(&mut self, method: &Method, body: Bytes) {
        self.notify_credit -= 1;
        let method = self.method_ref(method);
        let frame = Frame::new(Head::Notify { method });
        self.outbox
            .push_large(Priority::Normal, &frame, body.into());
    }

    /// Writes a VOLATILE, if it is likely to go soon.
    fn send_volatile(&mut self, method: &Method, encoded: &EncodedNotification) -> Told {
        let limit = self.limits.outbound_queue_bytes / VOLATILE_PART;
        let EncodedNotification::Frame(frame) = encoded else {
            return Told::Dropped;
        };
        if self.phase != Phase::Open
            || self.is_congested()
            || self.outbox.volatile_bytes() + frame.bytes.len() > limit
        {
            return Told::Dropped;
        }
        self.method_ref(method);
        self.outbox.push_volatile(&frame.bytes);
        Told::Queued
    }

    // ---- what is kept for a peer that is behind

    fn keep(&mut self, method: &Method, encoded: &EncodedNotification) -> Told {
        let limit = self.limits.backlog_bytes;
        let parcel = Parcel {
            method: method.clone(),
            content: encoded.content(),
        };
        let backlog = self.backlog.get_or_insert_default();
        let joined = match method.pressure() {
            Pressure::Conflate(place) => {
                let key = key(self.codec, method, encoded.body(), place);
                backlog.replace(key, parcel, limit)
            }
            _ => backlog.push(parcel, limit),
        };
        self.backlog.take_if(|backlog| backlog.is_empty());
        match joined {
            Joined::Waits => Told::Waits { replaces: false },
            Joined::Replaces => Told::Waits { replaces: true },
            Joined::Full => Told::Dropped,
        }
    }

    /// Sends what has waited longest of that which is kept.
    fn send_kept(&mut self) -> bool {
        let Some(parcel) = self.backlog.as_mut().and_then(|backlog| backlog.pop()) else {
            return false;
        };
        self.backlog.take_if(|backlog| backlog.is_empty());
        match parcel.content {
            Content::Frame(frame) => self.send_frame(&parcel.method, &frame),
            Content::Large(body) => self.send_large(&parcel.method, body),
        }
        true
    }

    /// There may be credit and room: those who wait for them take turns with what is kept.
    #[inline]
    pub(super) fn admit_notifications(&mut self, wakers: &mut Vec<Waker>) {
        if self.notify_waiting.waiting() > 0 || self.backlog.is_some() {
            self.share_credit(wakers);
        }
    }

    fn share_credit(&mut self, wakers: &mut Vec<Waker>) {
        while self.notify_places() > 0 {
            let has_admitted =
                self.notify_waiting.waiting() > 0 && self.notify_waiting.admitted() < MAX_ADMITTED;
            if has_admitted {
                self.notify_waiting.admit(wakers);
            }
            let has_sent = self.notify_places() > 0 && self.send_kept();
            if !has_admitted && !has_sent {
                return;
            }
        }
    }

    /// The connection is about to end: what the peer has credit for goes, however much waits.
    pub(super) fn send_rest_kept(&mut self) {
        while self.notify_credit > 0 && self.phase == Phase::Open && self.send_kept() {}
    }

    /// How many bytes this end holds that wait to be sent: in the outbox, of large bodies, and what
    /// is kept for a peer that is behind.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let kept = self.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
        self.outbox.len() + self.outbox.volatile_bytes() + self.outbox.large_bytes() + kept
    }
}

/// What the notification has in common with those that it takes the place of.
fn key(codec: Codec, method: &Method, body: &[u8], place: Option<u8>) -> Key {
    let argument = place.and_then(|place| backlog::argument(codec, body, place));
    Arc::new((method.shared_name(), argument.unwrap_or_default().into()))
}

/// What a connection keeps, if it keeps anything.
pub(super) type Kept = Option<Box<Backlog>>;

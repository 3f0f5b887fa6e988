//! Large bodies on their way out. A frame carries the first piece; CHUNKs with further ones follow,
//! one of each body in turn, between all other frames, so that no body delays anybody else.

use std::{borrow::Cow, collections::VecDeque};

use super::{
    frame::{CallId, ChunkState, Frame, Head},
    options::{OptionKey, Options, OptionsBuilder},
};
use crate::{
    body::{Codec, Rope},
    priority::Priority,
};

/// A body up to this size travels in its frame. Of a larger one, so much does.
pub(crate) const FIRST_PIECE_BYTES: usize = 64 << 10;

/// The size of all further pieces but the last.
const PIECE_BYTES: usize = 16 << 10;

/// Key of the option that says how many bytes the body has of which this is the first piece.
pub(crate) const TOTAL_BYTES: u64 = 0;

/// The bodies that have not been sent entirely.
#[derive(Debug)]
pub(super) struct LargeBodies {
    /// Those that are on their way. The one whose turn it is comes first.
    queue: VecDeque<LargeBody>,
    /// Those that begin when others have ended: the peer puts together only so much at a time.
    backlog: VecDeque<LargeBody>,
    /// How many bytes the bodies on their way have, and may have, in all. One may go in any case.
    on_their_way: usize,
    limit: usize,
    /// How many ever began.
    begun: usize,
    /// Bytes that have not been sent, those of first pieces and followers included.
    bytes: usize,
}

#[derive(Debug)]
struct LargeBody {
    key: CallId,
    priority: Priority,
    /// Whether the peer knows nothing of the call before this.
    is_request: bool,
    /// The frame with the first piece, until it is sent.
    first: Vec<u8>,
    body: Rope,
    sent: usize,
    /// Frames of the same call, or notifications if it is one: none overtakes.
    followers: VecDeque<Follower>,
}

/// What became of a body that is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborted {
    /// There was none of which the peer has seen anything.
    Nothing,
    /// It was a call of which the peer knows nothing.
    NotBegun,
    /// The peer is to be told.
    Begun,
}

/// A frame that waits for a body before it.
#[derive(Debug)]
enum Follower {
    Frame {
        encoded: Vec<u8>,
        is_counted: bool,
    },
    Large {
        first: Vec<u8>,
        body: Rope,
        sent: usize,
        is_request: bool,
    },
}

impl Follower {
    fn bytes(&self) -> usize {
        match self {
            Follower::Frame { encoded, .. } => encoded.len(),
            Follower::Large {
                first, body, sent, ..
            } => first.len() + body.len() - sent,
        }
    }
}

/// What frames have to keep their order among: those of a call, and all notifications.
pub(super) fn key(head: &Head<'_>) -> Option<CallId> {
    match head {
        Head::Request { id, .. }
        | Head::Response { id }
        | Head::Error { id, .. }
        | Head::Item { id }
        | Head::End { id }
        | Head::Cancel { id } => Some(*id),
        Head::Notify { .. } => Some(CallId::CONNECTION),
        _ => None,
    }
}

impl LargeBodies {
    pub(super) fn new(limit: usize) -> Self {
        LargeBodies {
            queue: VecDeque::new(),
            backlog: VecDeque::new(),
            on_their_way: 0,
            limit,
            begun: 0,
            bytes: 0,
        }
    }

    /// How much the peer puts together at a time.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a body of this priority is on its way.
    pub(super) fn contains_priority(&self, priority: Priority) -> bool {
        self.queue.iter().any(|large| large.priority == priority)
    }

    /// Bytes that have not been sent.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of this key's body and of what waits behind it that have not been sent.
    pub(super) fn bytes_of(&self, key: CallId) -> usize {
        let large = self.all().find(|large| large.key == key);
        large.map_or(0, |large| {
            let followers: usize = large.followers.iter().map(Follower::bytes).sum();
            large.first.len() + large.body.len() - large.sent + followers
        })
    }

    /// Whether a body of this key is on its way, or waits to begin.
    #[inline]
    pub(super) fn contains(&self, key: CallId) -> bool {
        if self.queue.is_empty() {
            // Nothing waits to begin then, either.
            return false;
        }
        self.all().any(|large| large.key == key)
    }

    fn all(&self) -> impl Iterator<Item = &LargeBody> {
        self.queue.iter().chain(&self.backlog)
    }

    /// Queues a frame with a large body behind the body of its key, which must be on its way.
    pub(super) fn follow(&mut self, key: CallId, codec: Codec, frame: &Frame<'_>, body: Rope) {
        let (first, sent) = first_frame(codec, frame, &body);
        let is_request = matches!(frame.head, Head::Request { .. });
        self.push_follower(
            key,
            Follower::Large {
                first,
                body,
                sent,
                is_request,
            },
        );
    }

    /// Queues a small frame there.
    pub(super) fn follow_encoded(&mut self, key: CallId, encoded: &[u8], is_counted: bool) {
        let encoded = encoded.to_vec();
        self.push_follower(
            key,
            Follower::Frame {
                encoded,
                is_counted,
            },
        );
    }

    fn push_follower(&mut self, key: CallId, follower: Follower) {
        let mut all = self.queue.iter_mut().chain(&mut self.backlog);
        if let Some(large) = all.find(|large| large.key == key) {
            self.bytes += follower.bytes();
            large.followers.push_back(follower);
        }
    }

    /// Takes over a body.
    pub(super) fn push(
        &mut self,
        key: CallId,
        priority: Priority,
        codec: Codec,
        frame: &Frame<'_>,
        body: Rope,
    ) {
        let (first, sent) = first_frame(codec, frame, &body);
        self.bytes += first.len() + body.len() - sent;
        self.backlog.push_back(LargeBody {
            key,
            priority,
            is_request: matches!(frame.head, Head::Request { .. }),
            first,
            body,
            sent,
            followers: VecDeque::new(),
        });
    }

    /// The frame with which the next body begins, if one may begin now: the first of the highest
    /// priority, and every fourth time the one that has waited longest.
    pub(super) fn begin_next(&mut self) -> Option<(Priority, Vec<u8>)> {
        let highest = self.backlog.iter().map(|large| large.priority).max()?;
        let is_next = |large: &LargeBody| large.priority == highest || self.begun % 4 == 3;
        let index = self.backlog.iter().position(is_next)?;
        let next = &self.backlog[index];
        if !self.queue.is_empty() && self.on_their_way + next.body.len() > self.limit {
            return None;
        }
        let mut large = self.backlog.remove(index)?;
        self.begun = self.begun.wrapping_add(1);
        self.on_their_way += large.body.len();
        let first = std::mem::take(&mut large.first);
        self.bytes -= first.len();
        let priority = large.priority;
        self.queue.push_back(large);
        Some((priority, first))
    }

    /// Forgets a body and all that waits behind it.
    pub(super) fn abort(&mut self, key: CallId) -> Aborted {
        let is_it = |large: &LargeBody| large.key == key;
        if let Some(index) = self.queue.iter().position(is_it) {
            let aborted = self.queue.remove(index);
            self.on_their_way -= aborted.as_ref().map_or(0, |large| large.body.len());
            self.forget(aborted);
            return Aborted::Begun;
        }
        if let Some(index) = self.backlog.iter().position(is_it) {
            let aborted = self.backlog.remove(index);
            let is_request = aborted.as_ref().is_some_and(|large| large.is_request);
            self.forget(aborted);
            return match is_request {
                true => Aborted::NotBegun,
                false => Aborted::Nothing,
            };
        }
        Aborted::Nothing
    }

    fn forget(&mut self, aborted: Option<LargeBody>) {
        let Some(large) = aborted else {
            return;
        };
        let followers: usize = large.followers.iter().map(Follower::bytes).sum();
        self.bytes -= large.first.len() + large.body.len() - large.sent + followers;
    }

    /// Hands the next piece of the body of this priority whose turn it is to `write`, and what
    /// waited behind it once it was the last. Then bodies of other priorities may begin, and the one
    /// that is sent is returned.
    pub(super) fn next_piece(
        &mut self,
        codec: Codec,
        priority: Priority,
        mut write: impl FnMut(Priority, Output<'_>),
    ) -> Option<Rope> {
        let is_next = |large: &LargeBody| large.priority == priority;
        let index = self.queue.iter().position(is_next);
        let mut large = self.queue.remove(index?)?;
        let piece = cut(codec, large.body.piece(large.sent), PIECE_BYTES);
        let end = large.sent + piece.len();
        let state = if end == large.body.len() {
            ChunkState::Last
        } else {
            ChunkState::More
        };
        let chunk = Frame::new(Head::Chunk {
            id: large.key,
            state,
            piece: Cow::Borrowed(piece),
        });
        write(priority, Output::Frame(&chunk));
        self.bytes -= piece.len();
        large.sent = end;
        if state == ChunkState::More {
            self.queue.push_back(large);
            return None;
        }
        self.on_their_way -= large.body.len();
        while let Some(follower) = large.followers.pop_front() {
            if matches!(follower, Follower::Frame { .. }) {
                self.bytes -= follower.bytes();
            }
            match follower {
                Follower::Frame {
                    encoded,
                    is_counted,
                } => write(priority, Output::Encoded(&encoded, is_counted)),
                Follower::Large {
                    first,
                    body,
                    sent,
                    is_request,
                } => {
                    self.backlog.push_back(LargeBody {
                        key: large.key,
                        priority,
                        is_request,
                        first,
                        body,
                        sent,
                        followers: large.followers,
                    });
                    break;
                }
            }
        }
        while let Some((priority, first)) = self.begin_next() {
            write(priority, Output::Encoded(&first, true));
        }
        Some(large.body)
    }
}

/// What [`LargeBodies::next_piece`] wants to be written.
pub(super) enum Output<'a> {
    Frame(&'a Frame<'a>),
    Encoded(&'a [u8], bool),
}

/// A frame with the first piece of its body, and how long that is.
fn first_frame(codec: Codec, frame: &Frame<'_>, body: &Rope) -> (Vec<u8>, usize) {
    // With one byte more it is known whether that begins a character.
    let first = body.first(FIRST_PIECE_BYTES + 1);
    let piece = cut(codec, &first, FIRST_PIECE_BYTES);
    let mut options = OptionsBuilder::from_options(codec, frame.options, None);
    options.uint(TOTAL_BYTES, body.len() as u64);
    let options = options.finish();
    let text;
    let payload = match codec {
        Codec::MessagePack => piece,
        // A part of a JSON text is no JSON: it travels as a string.
        Codec::Json => {
            text = serde_json::to_vec(&String::from_utf8_lossy(piece)).unwrap_or_default();
            &text
        }
    };
    let mut encoded = Vec::with_capacity(payload.len() + 64);
    Frame {
        head: frame.head.clone(),
        options: options.as_options(),
        payload,
    }
    .encode(codec, &mut encoded);
    (encoded, piece.len())
}

/// The first piece of what is left, of up to so many bytes: in JSON it does not end within a
/// character.
fn cut(codec: Codec, rest: &[u8], max_bytes: usize) -> &[u8] {
    let mut end = rest.len().min(max_bytes);
    if codec == Codec::Json {
        // 0b10xxxxxx is the inside of a character (RFC 3629 §3).
        while end < rest.len() && rest[end] & 0xc0 == 0x80 {
            end -= 1;
        }
    }
    &rest[..end]
}

/// How large the body is of which a frame has the first piece; none if it has all of it.
pub(super) fn total_bytes(options: Options<'_>) -> Option<u64> {
    options.entries().find_map(|(key, value)| match key {
        OptionKey::Integer(TOTAL_BYTES) => value.uint(),
        _ => None,
    })
}

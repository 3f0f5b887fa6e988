//! Notifications that are kept for a peer that is behind, where their methods say so: the latest of
//! each key, and of the others as many of the newest as there is room for.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use super::{json, messagepack};
use crate::{body::Codec, method::Method};

/// What an entry costs beside its bytes, in memory and in what is kept to find it.
const ENTRY_BYTES: usize = 256;

/// What waits, in the order in which it is to go.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Those of which the oldest may be dropped.
    droppable: VecDeque<Waiting>,
    droppable_bytes: usize,
    /// The latest of each key, in the order in which the keys came.
    latest: VecDeque<Waiting>,
    /// Where the latest of a key is: its place among all that were ever in `latest`.
    places: HashMap<Key, u64>,
    /// How many of those are there no more.
    gone: u64,
    /// How many have ever joined either queue.
    joined: u64,
    bytes: usize,
}

/// What two notifications have in common of which only the later one counts: the method, and an
/// argument as it is encoded.
pub(super) type Key = Arc<(Arc<str>, Box<[u8]>)>;

/// A notification that waits.
#[derive(Debug)]
struct Waiting {
    /// Where it stands in the order of both queues.
    turn: u64,
    key: Option<Key>,
    bytes: usize,
    parcel: Parcel,
}

/// A notification as it can be written at any time, shared by all the peers for which it waits.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) method: Method,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The whole frame.
    Frame(Bytes),
    /// A body that goes in pieces.
    Large(Bytes),
}

/// What became of a notification that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    Waits,
    /// It does, and an earlier one was given up for it.
    Replaces,
    /// There is no room.
    Full,
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Frame(bytes) | Content::Large(bytes) => bytes.len(),
        }
    }
}

impl Backlog {
    /// How many bytes wait, with what it takes to keep them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.droppable.is_empty() && self.latest.is_empty()
    }

    /// Queues a notification; the oldest go for it if need be.
    pub(super) fn push(&mut self, parcel: Parcel, limit: usize) -> Joined {
        let bytes = parcel.content.len() + ENTRY_BYTES;
        let Some(has_dropped) = self.make_room(bytes, limit) else {
            return Joined::Full;
        };
        self.droppable_bytes += bytes;
        let waiting = self.waiting(parcel, None, bytes);
        self.droppable.push_back(waiting);
        match has_dropped {
            true => Joined::Replaces,
            false => Joined::Waits,
        }
    }

    /// Queues a notification in the place of the one before with its key, if there is one.
    pub(super) fn replace(&mut self, key: Key, parcel: Parcel, limit: usize) -> Joined {
        let bytes = parcel.content.len() + key.1.len() + ENTRY_BYTES;
        let place = self.places.get(&key).map(|place| place - self.gone);
        let before = place.and_then(|place| Some((place, self.latest.get(place as usize)?.bytes)));
        let Some((place, bytes_before)) = before else {
            let Some(has_dropped) = self.make_room(bytes, limit) else {
                return Joined::Full;
            };
            let place = self.gone + self.latest.len() as u64;
            self.places.insert(key.clone(), place);
            let waiting = self.waiting(parcel, Some(key), bytes);
            self.latest.push_back(waiting);
            return match has_dropped {
                true => Joined::Replaces,
                false => Joined::Waits,
            };
        };
        self.bytes -= bytes_before;
        if self.make_room(bytes, limit).is_none() {
            self.bytes += bytes_before;
            return Joined::Full;
        }
        self.bytes += bytes;
        let waiting = &mut self.latest[place as usize];
        waiting.parcel = parcel;
        waiting.bytes = bytes;
        Joined::Replaces
    }

    fn waiting(&mut self, parcel: Parcel, key: Option<Key>, bytes: usize) -> Waiting {
        self.joined += 1;
        self.bytes += bytes;
        Waiting {
            turn: self.joined,
            key,
            bytes,
            parcel,
        }
    }

    /// Drops the oldest until so many bytes more are within the limit. Says whether it has dropped
    /// any, and nothing if that would not do.
    fn make_room(&mut self, bytes: usize, limit: usize) -> Option<bool> {
        if self.bytes - self.droppable_bytes + bytes > limit {
            return None;
        }
        let mut has_dropped = false;
        while self.bytes + bytes > limit {
            self.pop_droppable()?;
            has_dropped = true;
        }
        Some(has_dropped)
    }

    /// Takes out what goes next.
    pub(super) fn pop(&mut self) -> Option<Parcel> {
        let is_droppable = match (self.droppable.front(), self.latest.front()) {
            (Some(droppable), Some(latest)) => droppable.turn < latest.turn,
            (droppable, _) => droppable.is_some(),
        };
        if is_droppable {
            return self.pop_droppable();
        }
        let waiting = self.latest.pop_front()?;
        self.gone += 1;
        self.bytes -= waiting.bytes;
        if let Some(key) = &waiting.key {
            self.places.remove(key);
        }
        Some(waiting.parcel)
    }

    fn pop_droppable(&mut self) -> Option<Parcel> {
        let waiting = self.droppable.pop_front()?;
        self.bytes -= waiting.bytes;
        self.droppable_bytes -= waiting.bytes;
        Some(waiting.parcel)
    }
}

/// The argument at this place, as it stands in the body.
pub(super) fn argument(codec: Codec, body: &[u8], place: u8) -> Option<&[u8]> {
    match codec {
        Codec::MessagePack => messagepack::element(body, place),
        Codec::Json => json::element(body, place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = ENTRY_BYTES + 1;

    fn parcel(text: &'static str) -> Parcel {
        Parcel {
            method: Method::new("Backlog", "tests"),
            content: Content::Frame(Bytes::from_static(text.as_bytes())),
        }
    }

    fn key(text: &str) -> Key {
        Arc::new(("Backlog.tests".into(), text.as_bytes().into()))
    }

    fn rest(mut backlog: Backlog) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(parcel) = backlog.pop() {
            let Content::Frame(frame) = parcel.content else {
                panic!("{parcel:?}");
            };
            rest.push(String::from_utf8(frame.to_vec()).expect("text"));
        }
        assert!(backlog.is_empty() && backlog.places.is_empty());
        assert_eq!((backlog.bytes, backlog.droppable_bytes), (0, 0));
        rest
    }

    #[test]
    fn the_oldest_goes_where_there_is_no_room_for_the_newest() {
        let mut backlog = Backlog::default();
        let limit = 3 * SMALL;
        for text in ["1", "2", "3"] {
            assert_eq!(backlog.push(parcel(text), limit), Joined::Waits);
        }
        for text in ["4", "5"] {
            assert_eq!(backlog.push(parcel(text), limit), Joined::Replaces);
        }
        assert_eq!(backlog.bytes(), limit);
        assert_eq!(rest(backlog), ["3", "4", "5"]);
    }

    #[test]
    fn the_latest_of_a_key_has_the_turn_of_the_first() {
        let mut backlog = Backlog::default();
        for (name, text) in [
            ("a", "a1"),
            ("b", "b1"),
            ("a", "a2"),
            ("c", "c1"),
            ("b", "b2"),
        ] {
            backlog.replace(key(name), parcel(text), usize::MAX);
        }
        assert!(matches!(backlog.pop(), Some(Parcel { .. })));
        // What went is not what comes later.
        assert_eq!(
            backlog.replace(key("a"), parcel("a3"), usize::MAX),
            Joined::Waits
        );
        assert_eq!(
            backlog.replace(key("c"), parcel("c2"), usize::MAX),
            Joined::Replaces
        );
        assert_eq!(rest(backlog), ["b2", "c2", "a3"]);
    }

    #[test]
    fn both_go_in_the_order_in_which_they_came() {
        let mut backlog = Backlog::default();
        backlog.push(parcel("1"), usize::MAX);
        backlog.replace(key("a"), parcel("a1"), usize::MAX);
        backlog.push(parcel("2"), usize::MAX);
        backlog.replace(key("b"), parcel("b1"), usize::MAX);
        backlog.replace(key("a"), parcel("a2"), usize::MAX);
        assert_eq!(rest(backlog), ["1", "a2", "2", "b1"]);
    }

    #[test]
    fn the_latest_of_a_key_is_not_dropped_for_anything_else() {
        let mut backlog = Backlog::default();
        let limit = 2 * (SMALL + 2) + 1;
        backlog.push(parcel("1"), limit);
        assert_eq!(
            backlog.replace(key("a"), parcel("a1"), limit),
            Joined::Waits
        );
        assert_eq!(
            backlog.replace(key("b"), parcel("b1"), limit),
            Joined::Replaces
        );
        assert_eq!(backlog.replace(key("c"), parcel("c1"), limit), Joined::Full);
        assert_eq!(backlog.push(parcel("2"), limit), Joined::Full);
        // Nor is an earlier one of its own key, for one that is too large.
        let larger = "a2 and so much more that there is no room for it";
        assert_eq!(
            backlog.replace(key("a"), parcel(larger), limit),
            Joined::Full
        );
        assert_eq!(rest(backlog), ["a1", "b1"]);
    }

    #[test]
    fn an_argument_is_found_in_the_body() {
        let body = (7_u8, ["a", "b"], "key", 1.5_f64);
        for codec in Codec::ALL {
            let mut encoded = Vec::new();
            crate::body::encode(codec, &body, &mut encoded).expect("encodes");
            let mut key = Vec::new();
            crate::body::encode(codec, &"key", &mut key).expect("encodes");
            assert_eq!(argument(codec, &encoded, 2), Some(&key[..]));
            assert_eq!(argument(codec, &encoded, 4), None);
        }
    }
}

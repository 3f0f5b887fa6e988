//! Where a subscriber stands in a topic, as REQUEST and OPEN say it.

use serde::{Deserialize, Serialize};

use super::options::{OptionKey, Options, OptionsBuilder};

/// Keys of options of REQUEST, for what the subscriber has had last, and of OPEN, for what comes
/// before the first item that follows.
const EPOCH: u64 = 5;
const OFFSET: u64 = 7;

/// Keys of options of OPEN: what became of the subscriber's position, and how many items are gone.
const STANDING: u64 = 9;
const MISSED: u64 = 11;

const RECOVERED: u64 = 1;
const GAP: u64 = 2;

/// A place in a topic: behind one of its items, or before the first one.
///
/// It is good for asking for what comes behind it, also from another process at another time: it may
/// be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicPosition {
    /// Which life of the topic this is about. A topic that begins anew, such as after a restart of
    /// its server, counts from 1 again, and has another epoch. Below 2^53.
    pub epoch: u64,
    /// The number of the last item before this place; 0 for none.
    pub offset: u64,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) position: TopicPosition,
    pub(crate) standing: Standing,
}

/// What became of the position that a subscriber came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It came with none.
    Fresh,
    /// All that has been published behind it follows.
    Recovered,
    /// Some is gone: so many items, if that is known.
    Gap { missed: Option<u64> },
}

impl TopicPosition {
    pub(crate) fn write(self, options: &mut OptionsBuilder) {
        options.uint(EPOCH, self.epoch);
        options.uint(OFFSET, self.offset);
    }
}

/// Collects a position out of options, whose keys come in any order. What is no number counts as
/// absent.
#[derive(Default)]
pub(crate) struct PositionReader {
    epoch: Option<u64>,
    offset: Option<u64>,
}

impl PositionReader {
    pub(crate) fn read(&mut self, key: u64, value: Option<u64>) {
        match key {
            EPOCH => self.epoch = value,
            OFFSET => self.offset = value,
            _ => {}
        }
    }

    /// The position, if both halves are there.
    pub(crate) fn finish(self) -> Option<TopicPosition> {
        let (epoch, offset) = (self.epoch?, self.offset?);
        Some(TopicPosition { epoch, offset })
    }
}

impl Opening {
    pub(super) fn write(self, options: &mut OptionsBuilder) {
        self.position.write(options);
        match self.standing {
            Standing::Fresh => {}
            Standing::Recovered => {
                options.uint(STANDING, RECOVERED);
            }
            Standing::Gap { missed } => {
                options.uint(STANDING, GAP);
                if let Some(missed) = missed {
                    options.uint(MISSED, missed);
                }
            }
        }
    }

    /// What an OPEN says, if it is that of a topic.
    pub(super) fn read(options: Options<'_>) -> Option<Self> {
        let mut position = PositionReader::default();
        let (mut standing, mut missed) = (None, None);
        for (key, value) in options.entries() {
            match key {
                OptionKey::Integer(STANDING) => standing = value.uint(),
                OptionKey::Integer(MISSED) => missed = value.uint(),
                OptionKey::Integer(key) => position.read(key, value.uint()),
                OptionKey::Text(_) => {}
            }
        }
        Some(Opening {
            position: position.finish()?,
            standing: match standing {
                None => Standing::Fresh,
                Some(RECOVERED) => Standing::Recovered,
                // What a later version may say is no promise that nothing is missing.
                Some(_) => Standing::Gap { missed },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Codec;

    #[test]
    fn an_opening_reads_as_it_was_written() {
        let position = TopicPosition {
            epoch: (1 << 53) - 1,
            offset: 7,
        };
        for codec in Codec::ALL {
            for standing in [
                Standing::Fresh,
                Standing::Recovered,
                Standing::Gap { missed: None },
                Standing::Gap { missed: Some(3) },
            ] {
                let opening = Opening { position, standing };
                let mut options = OptionsBuilder::new(codec);
                opening.write(&mut options);
                let options = options.finish();
                assert_eq!(Opening::read(options.as_options()), Some(opening));
            }
        }
    }

    #[test]
    fn half_a_position_is_none() {
        let mut options = OptionsBuilder::new(Codec::Json);
        options.uint(OFFSET, 7).text(EPOCH, "x");
        let options = options.finish();
        assert_eq!(Opening::read(options.as_options()), None);
    }
}

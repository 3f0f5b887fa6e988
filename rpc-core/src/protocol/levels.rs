//! A packer for each priority. Most connections have only ever frames of one.

use super::packer::{Batch, Packer};
use crate::{body::Codec, priority::Priority};

/// What waits of each priority.
#[derive(Debug)]
pub(super) struct Levels {
    normal: Packer,
    /// Made when it is first used: an idle connection should be small.
    others: Option<Box<Others>>,
}

#[derive(Debug)]
struct Others {
    high: Packer,
    low: Packer,
}

impl Levels {
    pub(super) fn new(codec: Codec) -> Self {
        Levels {
            normal: Packer::new(codec),
            others: None,
        }
    }

    /// The packer of a priority, if it was ever used.
    #[inline]
    pub(super) fn get(&self, priority: Priority) -> Option<&Packer> {
        match (priority, &self.others) {
            (Priority::Normal, _) => Some(&self.normal),
            (_, None) => None,
            (Priority::High, Some(others)) => Some(&others.high),
            (Priority::Low, Some(others)) => Some(&others.low),
        }
    }

    /// The packer of a priority, if it was ever used.
    #[inline]
    pub(super) fn get_mut(&mut self, priority: Priority) -> Option<&mut Packer> {
        match (priority, &mut self.others) {
            (Priority::Normal, _) => Some(&mut self.normal),
            (_, None) => None,
            (Priority::High, Some(others)) => Some(&mut others.high),
            (Priority::Low, Some(others)) => Some(&mut others.low),
        }
    }

    /// The packer of a priority, to put something in.
    #[inline]
    pub(super) fn open(&mut self, priority: Priority) -> &mut Packer {
        let Levels { normal, others } = self;
        let made = || {
            Box::new(Others {
                high: normal.like(),
                low: normal.like(),
            })
        };
        match priority {
            Priority::Normal => normal,
            Priority::High => &mut others.get_or_insert_with(made).high,
            Priority::Low => &mut others.get_or_insert_with(made).low,
        }
    }

    /// Those that were ever used.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = &Packer> {
        let others = self.others.iter();
        let others = others.flat_map(|others| [&others.high, &others.low]);
        std::iter::once(&self.normal).chain(others)
    }

    /// Those that were ever used.
    #[inline]
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Packer> {
        let others = self.others.iter_mut();
        let others = others.flat_map(|others| {
            let Others { high, low } = &mut **others;
            [high, low]
        });
        std::iter::once(&mut self.normal).chain(others)
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let has_others = |others: &Others| !others.high.is_empty() || !others.low.is_empty();
        self.normal.is_empty() && !self.others.as_deref().is_some_and(has_others)
    }

    /// Whether what waits is of one priority, so that nothing has to go before anything else.
    #[inline]
    pub(super) fn are_in_order(&self) -> bool {
        match &self.others {
            None => true,
            Some(_) => self.iter().filter(|level| !level.is_empty()).count() <= 1,
        }
    }

    /// Moves all messages to `batch`.
    #[inline]
    pub(super) fn take(&mut self, batch: &mut Batch) {
        self.normal.take(batch);
        if let Some(others) = &mut self.others {
            others.high.take(batch);
            others.low.take(batch);
        }
    }

    /// Leaves buffers that are empty to the thread.
    #[inline]
    pub(super) fn give_back_buffers(&mut self) {
        self.normal.give_back_buffer();
        if let Some(others) = &mut self.others {
            others.high.give_back_buffer();
            others.low.give_back_buffer();
        }
    }

    /// How many bytes wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        let others = self.others.as_deref();
        self.normal.len() + others.map_or(0, |others| others.high.len() + others.low.len())
    }
}

//! Which slots are free, the lowest first, so that ids stay one or two bytes long.

/// A set of small numbers that are handed out and taken back.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// A bit for each number, set while it is free.
    free: Vec<u64>,
    /// No word before this one has a free number.
    lowest: usize,
    used: usize,
}

impl Slots {
    /// The lowest free number.
    #[inline]
    pub(super) fn take(&mut self) -> usize {
        self.used += 1;
        while let Some(word) = self.free.get_mut(self.lowest) {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                return self.lowest * 64 + bit;
            }
            self.lowest += 1;
        }
        self.free.push(!1);
        self.lowest * 64
    }

    /// Takes a number back that was handed out.
    #[inline]
    pub(super) fn give_back(&mut self, number: usize) {
        let word = number / 64;
        debug_assert!(self.free[word] & 1 << (number % 64) == 0);
        self.free[word] |= 1 << (number % 64);
        self.lowest = self.lowest.min(word);
        self.used -= 1;
    }

    /// How many are handed out.
    #[inline]
    pub(super) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut slots = Slots::default();
        let taken: Vec<_> = (0..200).map(|_| slots.take()).collect();
        assert_eq!(taken, (0..200).collect::<Vec<_>>());
        slots.give_back(130);
        slots.give_back(7);
        assert_eq!((slots.take(), slots.take(), slots.take()), (7, 130, 200));
        assert_eq!(slots.used(), 201);
    }
}

//! Which of the frames that wait are written first.

/// How urgent a call is: what is written first when more waits than the connection can take.
///
/// It holds for everything that either end sends of the call. A higher priority goes first, but no
/// priority waits for ever: of each that has something to send, something goes with every write.
/// Where nothing waits, it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// What can wait: a backup, a prefetch.
    Low,
    /// What says nothing else.
    #[default]
    Normal,
    /// What people wait for while something else goes on.
    High,
}

impl Priority {
    /// From the highest to the lowest.
    pub(crate) const DESCENDING: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// As it travels. A number that means nothing is taken for the normal one.
    pub(crate) fn from_wire(value: u64) -> Self {
        match value {
            0 => Priority::Low,
            2 => Priority::High,
            _ => Priority::Normal,
        }
    }
}

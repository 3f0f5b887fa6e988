//! What becomes of a notification whose peer is behind.

/// What a method says of its notifications to a peer that is behind: one that has given no credit for
/// more of them, or to which too much waits to be written. `#[notify(…)]` declares it.
///
/// | | one peer | many peers, in [`Delivery`](crate::Delivery) |
/// | --- | --- | --- |
/// | [`Wait`](Pressure::Wait) | the sender waits, up to its deadline | left out: `behind` |
/// | [`Volatile`](Pressure::Volatile), [`DropNewest`](Pressure::DropNewest) | dropped | `dropped` |
/// | [`DropOldest`](Pressure::DropOldest), [`Conflate`](Pressure::Conflate) | kept for it | `waiting` |
/// | [`Disconnect`](Pressure::Disconnect) | fails with `UNAVAILABLE` | `disconnected` |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pressure {
    /// Whoever sends it to one peer waits, and a broadcast leaves the peer out.
    #[default]
    Wait,
    /// It takes no credit, and is dropped where it cannot be written soon: also while there is no
    /// connection.
    Volatile,
    /// It is dropped.
    DropNewest,
    /// It is kept until the peer has caught up; where too much is kept already, the oldest is dropped.
    DropOldest,
    /// It takes the place of the one before with the same key, and is kept until the peer has caught
    /// up. The key is the argument at this place; without one, all of the method have one key.
    Conflate(Option<u8>),
    /// The peer's session ends, so that it begins another one and knows that it has missed something.
    Disconnect,
}

use std::time::Duration;

/// What happens to the bytes that pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// They are passed on.
    #[default]
    None,
    /// Nothing is read from either side and nothing is forwarded, the end of a connection neither,
    /// and all stay open: what is left of a connection when a router has forgotten it. A connection
    /// that comes meanwhile is accepted, and reaches the server once the fault has been healed.
    HalfOpen,
    /// Only this direction is forwarded. The other one stands still, and nobody is told.
    OneWay(Direction),
    /// Everything takes that long, each way, and comes in order. As much as 4 MiB can be on the way
    /// at a time for each connection and direction; below that, throughput is not limited.
    Delay(Duration),
    /// Not more than that, for each connection and direction. What cannot go waits at the sender's;
    /// up to 64 KiB of it are taken in.
    Throttle { bytes_per_second: u32 },
    /// Each byte is written by itself.
    ByteWise,
    /// New connections are accepted and reset at once. Those that there are go on.
    Refuse,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client, which connected to the relay.
    ToServer,
    /// From the server, to which the relay connected.
    ToClient,
}

impl Fault {
    /// Whether anything passes in this direction.
    pub(super) fn forwards(self, direction: Direction) -> bool {
        match self {
            Fault::HalfOpen => false,
            Fault::OneWay(forwarded) => forwarded == direction,
            _ => true,
        }
    }
}

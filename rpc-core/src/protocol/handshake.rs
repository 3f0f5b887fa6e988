//! HELLO and WELCOME: what each end announces before anything else.

use std::time::Duration;

use super::{
    frame::Frame,
    frame::Head,
    options::{EncodedOptions, OptionKey, Options, OptionsBuilder},
    stream::StreamCredit,
};
use crate::{body::Codec, limits::Limits};

const MAX_MESSAGE_BYTES: u64 = 1;
const MAX_BODY_BYTES: u64 = 3;
const MAX_IN_FLIGHT: u64 = 5;
const NOTIFICATION_CREDIT: u64 = 7;
const DEFAULT_DEADLINE_MS: u64 = 9;
const AGENT: u64 = 11;
const STREAM_ITEMS: u64 = 13;
const STREAM_BYTES: u64 = 15;
const MAX_ASSEMBLY_BYTES: u64 = 17;

/// What the other end of the connection accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimits {
    /// The largest message, in bytes.
    pub max_message_bytes: usize,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// Bytes of large bodies that it puts together at a time.
    pub max_assembly_bytes: usize,
    /// Calls in flight towards it.
    pub max_in_flight: usize,
    /// Notifications that it lets wait.
    pub notification_credit: usize,
    /// How much of a stream may be on its way to it, unless it says otherwise.
    pub stream_credit: StreamCredit,
    /// The deadline of its own calls that do not carry one.
    pub default_deadline: Option<Duration>,
}

impl Default for PeerLimits {
    /// What holds until the peer has announced itself: the protocol's defaults.
    fn default() -> Self {
        PeerLimits::from(&Limits::default())
    }
}

impl From<&Limits> for PeerLimits {
    fn from(limits: &Limits) -> Self {
        PeerLimits {
            max_message_bytes: limits.max_message_bytes,
            max_body_bytes: limits.max_body_bytes,
            max_assembly_bytes: limits.max_assembly_bytes,
            max_in_flight: limits.max_in_flight,
            notification_credit: limits.notification_credit,
            stream_credit: limits.stream_credit,
            default_deadline: limits.default_deadline,
        }
    }
}

/// The options of this end's HELLO or WELCOME.
pub(super) fn announce(codec: Codec, limits: &Limits) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    let defaults = PeerLimits::default();
    let own = PeerLimits::from(limits);
    let mut differing = |key, value: usize, default: usize| {
        if value != default {
            options.uint(key, value as u64);
        }
    };
    differing(
        MAX_MESSAGE_BYTES,
        own.max_message_bytes,
        defaults.max_message_bytes,
    );
    differing(MAX_BODY_BYTES, own.max_body_bytes, defaults.max_body_bytes);
    differing(MAX_IN_FLIGHT, own.max_in_flight, defaults.max_in_flight);
    differing(
        NOTIFICATION_CREDIT,
        own.notification_credit,
        defaults.notification_credit,
    );
    differing(
        MAX_ASSEMBLY_BYTES,
        own.max_assembly_bytes,
        defaults.max_assembly_bytes,
    );
    differing(
        STREAM_ITEMS,
        own.stream_credit.items as usize,
        defaults.stream_credit.items as usize,
    );
    differing(
        STREAM_BYTES,
        own.stream_credit.bytes as usize,
        defaults.stream_credit.bytes as usize,
    );
    if own.default_deadline != defaults.default_deadline {
        options.uint(DEFAULT_DEADLINE_MS, deadline_ms(own.default_deadline));
    }
    options.text(AGENT, concat!("wirecall/", env!("CARGO_PKG_VERSION")));
    options.finish()
}

/// Sends HELLO or WELCOME.
pub(super) fn frame<'a>(head: Head<'a>, options: &'a EncodedOptions) -> Frame<'a> {
    Frame {
        head,
        options: options.as_options(),
        payload: &[],
    }
}

/// Reads the peer's announcement. The key of an option that must be understood and is not comes
/// back as the error.
pub(super) fn read(options: Options<'_>) -> Result<PeerLimits, u64> {
    let mut limits = PeerLimits::default();
    for (key, value) in options.entries() {
        let OptionKey::Integer(key) = key else {
            continue;
        };
        let number = value.uint();
        let size = number.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        match (key, size) {
            (MAX_MESSAGE_BYTES, Some(size)) => limits.max_message_bytes = size,
            (MAX_BODY_BYTES, Some(size)) => limits.max_body_bytes = size,
            (MAX_IN_FLIGHT, Some(size)) => limits.max_in_flight = size,
            (NOTIFICATION_CREDIT, Some(size)) => limits.notification_credit = size,
            (MAX_ASSEMBLY_BYTES, Some(size)) => limits.max_assembly_bytes = size,
            (STREAM_ITEMS, Some(size)) => {
                limits.stream_credit.items = u32::try_from(size).unwrap_or(u32::MAX);
            }
            (STREAM_BYTES, Some(size)) => {
                limits.stream_credit.bytes = u32::try_from(size).unwrap_or(u32::MAX);
            }
            (DEFAULT_DEADLINE_MS, Some(_)) => {
                limits.default_deadline = number
                    .filter(|number| *number > 0)
                    .map(Duration::from_millis);
            }
            (key, _) if key % 2 == 0 => return Err(key),
            _ => {}
        }
    }
    Ok(limits)
}

/// A deadline as it travels: whole milliseconds, at least one, and 0 for none.
pub(crate) fn deadline_ms(deadline: Option<Duration>) -> u64 {
    deadline.map_or(0, |deadline| {
        u64::try_from(deadline.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    })
}

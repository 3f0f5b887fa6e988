//! HELLO and WELCOME: what each end announces before anything else.

use std::time::Duration;

use super::{
    frame::Frame,
    frame::Head,
    options::{EncodedOptions, OptionKey, OptionValue, Options, OptionsBuilder},
    resume::{Heartbeat, MAX_TOKEN_BYTES, Offer, Refusal, Resume, ResumeToken},
    stream::StreamCredit,
    token::Token,
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
const REPLAY_BYTES: u64 = 19;
const RESUME_TOKEN: u64 = 21;
const RECEIVED: u64 = 23;
const SENT: u64 = 25;
const RESUME_WINDOW_MS: u64 = 27;
const NOT_RESUMED: u64 = 29;
const PING_INTERVAL_MS: u64 = 31;
const PING_TIMEOUT_MS: u64 = 33;
const TOKEN: u64 = 35;
const EXPIRES_MS: u64 = 37;

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

/// What HELLO or WELCOME says beside the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// How much this end keeps to send it again; none, and 0, if it keeps nothing.
    pub(super) replay_bytes: usize,
    /// HELLO: the session that is to go on.
    pub(super) resume: Option<Resume>,
    /// WELCOME: how to come back.
    pub(super) offer: Option<Offer>,
    /// WELCOME: the session goes on. Counted frames received and sent.
    pub(super) resumed: Option<(u64, u64)>,
    /// WELCOME: the session does not go on.
    pub(super) refusal: Option<Refusal>,
    /// WELCOME: how often the acceptor sends something.
    pub(super) heartbeat: Option<Heartbeat>,
    /// HELLO, AUTH: who the dialler is.
    pub(super) token: Option<Token>,
    /// WELCOME, AUTH: for how long the acceptor takes that for good, unless it is for ever.
    pub(super) expires: Option<Duration>,
}

impl Terms {
    fn write(&self, options: &mut OptionsBuilder) {
        if self.replay_bytes > 0 {
            options.uint(REPLAY_BYTES, self.replay_bytes as u64);
        }
        if let Some(resume) = &self.resume {
            options
                .text(RESUME_TOKEN, resume.token.as_str())
                .uint(RECEIVED, resume.received)
                .uint(SENT, resume.sent);
        }
        if let Some(offer) = &self.offer {
            options
                .text(RESUME_TOKEN, offer.token.as_str())
                .uint(RESUME_WINDOW_MS, milliseconds(offer.window));
        }
        if let Some((received, sent)) = self.resumed {
            options.uint(RECEIVED, received).uint(SENT, sent);
        }
        if let Some(refusal) = self.refusal {
            options.uint(NOT_RESUMED, refusal.to_wire());
        }
        let differs = |heartbeat: &Heartbeat| *heartbeat != Heartbeat::default();
        if let Some(heartbeat) = self.heartbeat.filter(differs) {
            options
                .uint(PING_INTERVAL_MS, milliseconds(heartbeat.interval))
                .uint(PING_TIMEOUT_MS, milliseconds(heartbeat.timeout));
        }
        if let Some(token) = &self.token {
            options.text(TOKEN, token.as_str());
        }
        if let Some(expires) = self.expires {
            options.uint(EXPIRES_MS, milliseconds(expires));
        }
    }

    /// Takes out of HELLO or WELCOME what is no limit.
    pub(super) fn read(options: Options<'_>) -> Self {
        let mut numbers = [None; 10];
        let mut token = None;
        for (key, value) in options.entries() {
            match (key, value) {
                (OptionKey::Integer(RESUME_TOKEN), OptionValue::Text(text))
                    if text.len() <= MAX_TOKEN_BYTES =>
                {
                    token = Some(ResumeToken(text.into()));
                }
                (OptionKey::Integer(key @ REPLAY_BYTES..=EXPIRES_MS), value) if key % 2 == 1 => {
                    numbers[(key - REPLAY_BYTES) as usize / 2] = value.uint();
                }
                _ => {}
            }
        }
        let number = |key: u64| numbers[(key - REPLAY_BYTES) as usize / 2];
        let duration = |key| number(key).map(Duration::from_millis);
        let counts = number(RECEIVED).zip(number(SENT));
        let window = duration(RESUME_WINDOW_MS);
        let heartbeat = duration(PING_INTERVAL_MS).zip(duration(PING_TIMEOUT_MS));
        let resume = token.clone().zip(counts);
        Terms {
            replay_bytes: number(REPLAY_BYTES)
                .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            resume: resume.map(|(token, (received, sent))| Resume {
                token,
                received,
                sent,
            }),
            offer: token
                .zip(window)
                .map(|(token, window)| Offer { token, window }),
            resumed: counts,
            refusal: number(NOT_RESUMED).map(Refusal::from_wire),
            heartbeat: heartbeat.map(|(interval, timeout)| Heartbeat { interval, timeout }),
            token: Token::read(options, TOKEN),
            expires: duration(EXPIRES_MS),
        }
    }
}

/// The options of this end's HELLO or WELCOME.
pub(super) fn announce(codec: Codec, limits: &Limits, terms: &Terms) -> EncodedOptions {
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
    terms.write(&mut options);
    options.text(AGENT, concat!("wirecall/", env!("CARGO_PKG_VERSION")));
    options.finish()
}

/// The options of an AUTH.
pub(super) fn auth(codec: Codec, terms: &Terms) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    terms.write(&mut options);
    options.finish()
}

/// Sends HELLO, WELCOME or AUTH.
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
    deadline.map_or(0, |deadline| milliseconds(deadline).max(1))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Wirecall with sessions that end with their connections: what it costs to keep what was sent is
//! the difference.

pub(crate) type WirecallOnce = super::wirecall::Resumable<false>;

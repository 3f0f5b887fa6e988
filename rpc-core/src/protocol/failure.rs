//! Errors as they stand in ERROR frames, and how they get there.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;

use super::{
    calls::Failure,
    frame::{CallId, Frame, Head},
    options::{EncodedOptions, OptionKey, OptionsBuilder},
};
use crate::{
    body::Codec,
    close::CloseReason,
    status::{Code, Fate, Status},
};

/// Keys of options of ERROR.
const FATE: u64 = 1;
const RETRY_AFTER_MS: u64 = 3;

/// The longest text of an error that is sent.
const MAX_ERROR_TEXT_BYTES: usize = 1 << 10;

pub(crate) fn closed_status(reason: &CloseReason, fate: Fate) -> Status {
    Status::new(Code::UNAVAILABLE, reason.to_string()).with_fate(fate)
}

pub(crate) fn body_too_large(bytes: usize, limit: usize) -> Status {
    Status::new(
        Code::RESOURCE_EXHAUSTED,
        format!("a body of {bytes} bytes is larger than the limit of {limit}"),
    )
}

/// The options of an ERROR with this status; none in the usual case of an executed call.
pub(crate) fn error_options(codec: Codec, status: &Status) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    if status.fate() != Fate::Executed {
        options.uint(FATE, status.fate().to_wire());
    }
    if let Some(retry_after) = status.retry_after() {
        let milliseconds = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        options.uint(RETRY_AFTER_MS, milliseconds);
    }
    options.finish()
}

pub(crate) fn error_frame<'a>(
    id: CallId,
    status: &'a Status,
    options: &'a EncodedOptions,
    details: &'a [u8],
) -> Frame<'a> {
    let text = status.message();
    let end = (0..=text.len().min(MAX_ERROR_TEXT_BYTES)).rfind(|end| text.is_char_boundary(*end));
    Frame {
        head: Head::Error {
            id,
            code: status.code().value(),
            message: Cow::Borrowed(&text[..end.unwrap_or_default()]),
        },
        options: options.as_options(),
        payload: details,
    }
}

pub(super) fn read_failure(code: u16, text: &str, frame: &Frame<'_>, message: &Bytes) -> Failure {
    let mut status = Status::new(Code::new(code), text.to_owned());
    for (key, value) in frame.options.entries() {
        match (key, value.uint()) {
            (OptionKey::Integer(FATE), Some(fate)) => {
                status = status.with_fate(Fate::from_wire(fate));
            }
            (OptionKey::Integer(RETRY_AFTER_MS), Some(milliseconds)) => {
                status = status.with_retry_after(Duration::from_millis(milliseconds));
            }
            _ => {}
        }
    }
    Failure {
        status,
        details: message.slice_ref(frame.payload),
    }
}

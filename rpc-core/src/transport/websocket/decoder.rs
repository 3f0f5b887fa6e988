//! Bytes in, messages and control frames out: the receiving half of RFC 6455 §5, without I/O.

use bytes::Bytes;

use super::{
    INVALID_DATA, Role,
    header::{Header, MAX_HEADER_BYTES, Opcode},
    mask, violation,
};
use crate::{
    close::CloseCode,
    transport::{Message, MessageKind, TransportError},
};

/// Room that a message gets at first when it does not come in one piece.
const FIRST_ROOM_BYTES: usize = 4 << 10;

/// What some bytes have been.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// All bytes are taken in, and nothing has come to its end with them.
    NeedsInput,
    /// A frame, but no message yet.
    Fragment,
    Message(Message),
    Ping(Vec<u8>),
    Pong,
    /// Code and reason; `None` if the frame was empty.
    Close(Option<(CloseCode, String)>),
}

/// Reads frames out of bytes that come in whatever pieces.
///
/// Between two frames it holds no memory; within a message no more than a small multiple of what
/// has come of it, whatever its length claims to be.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The role of the peer.
    sender: Role,
    max_message_bytes: usize,
    /// The start of a header of which the rest has not come.
    partial_header: [u8; MAX_HEADER_BYTES],
    partial_header_bytes: usize,
    /// The frame whose payload is coming.
    frame: Option<Frame>,
    /// The message whose frames are coming.
    message: Option<PartialMessage>,
    /// The payload of the control frame that is coming, maybe between frames of the message.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    /// Bytes of the payload that have not come.
    remaining: usize,
    /// For the next byte of the payload.
    mask: Option<[u8; 4]>,
}

#[derive(Debug)]
struct PartialMessage {
    kind: MessageKind,
    data: Vec<u8>,
    /// So much of a text is known to be UTF-8.
    valid_bytes: usize,
}

impl Decoder {
    pub(super) fn new(sender: Role, max_message_bytes: usize) -> Self {
        Decoder {
            sender,
            max_message_bytes,
            partial_header: [0; MAX_HEADER_BYTES],
            partial_header_bytes: 0,
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input`, up to the end of the next frame or all of them.
    ///
    /// # Errors
    /// [`TransportError::Violation`] and [`TransportError::MessageTooBig`]; nothing can be read
    /// after them.
    pub(super) fn decode(&mut self, input: &mut &[u8]) -> Result<Decoded, TransportError> {
        let frame = match self.frame.take() {
            Some(frame) => frame,
            None => match self.take_header(input)? {
                Some(header) => self.begin(header)?,
                None => return Ok(Decoded::NeedsInput),
            },
        };
        if self.message.is_none() && frame.is_message(input.len()) {
            return take_message(frame, input);
        }
        if frame.opcode.is_control() {
            self.take_control(frame, input)
        } else {
            self.take_data(frame, input)
        }
    }

    /// Gives up what has come of a message.
    pub(super) fn clear(&mut self) {
        self.message = None;
        self.control = Vec::new();
    }

    /// What the buffers take.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let message = self.message.as_ref();
        self.control.capacity() + message.map_or(0, |message| message.data.capacity())
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, TransportError> {
        let before = self.partial_header_bytes;
        if before == 0
            && let Some((header, header_bytes)) = Header::parse(input, self.sender)?
        {
            *input = &input[header_bytes..];
            return Ok(Some(header));
        }
        let added = input.len().min(MAX_HEADER_BYTES - before);
        self.partial_header[before..before + added].copy_from_slice(&input[..added]);
        let partial = &self.partial_header[..before + added];
        let Some((header, header_bytes)) = Header::parse(partial, self.sender)? else {
            self.partial_header_bytes = partial.len();
            *input = &input[added..];
            return Ok(None);
        };
        self.partial_header_bytes = 0;
        *input = &input[header_bytes - before..];
        Ok(Some(header))
    }

    /// Checks whether a frame may come now (RFC 6455 §5.4), and whether it is too large.
    fn begin(&self, header: Header) -> Result<Frame, TransportError> {
        let before = self.message.as_ref().map(|message| message.data.len());
        match (header.opcode, before) {
            (Opcode::Continuation, None) => {
                return Err(violation("a continuation of no message"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(violation("a new message within another one"));
            }
            _ => {}
        }
        let remaining = usize::try_from(header.payload_bytes)
            .ok()
            .filter(|bytes| {
                header.opcode.is_control()
                    || *bytes <= self.max_message_bytes - before.unwrap_or_default()
            })
            .ok_or(TransportError::MessageTooBig)?;
        Ok(Frame {
            opcode: header.opcode,
            is_final: header.is_final,
            remaining,
            mask: header.mask,
        })
    }

    fn take_control(
        &mut self,
        mut frame: Frame,
        input: &mut &[u8],
    ) -> Result<Decoded, TransportError> {
        frame.take_payload(input, &mut self.control);
        if frame.remaining > 0 {
            self.frame = Some(frame);
            return Ok(Decoded::NeedsInput);
        }
        let payload = std::mem::take(&mut self.control);
        Ok(match frame.opcode {
            Opcode::Ping => Decoded::Ping(payload),
            Opcode::Close => Decoded::Close(close_body(&payload)?),
            _ => Decoded::Pong,
        })
    }

    fn take_data(
        &mut self,
        mut frame: Frame,
        input: &mut &[u8],
    ) -> Result<Decoded, TransportError> {
        let message = self
            .message
            .get_or_insert_with(|| PartialMessage::begin(frame.opcode));
        frame.make_room(input.len(), &mut message.data);
        frame.take_payload(input, &mut message.data);
        if frame.remaining > 0 {
            self.frame = Some(frame);
            return Ok(Decoded::NeedsInput);
        }
        message.check_text(frame.is_final)?;
        if !frame.is_final {
            return Ok(Decoded::Fragment);
        }
        Ok(match self.message.take() {
            Some(message) => Decoded::Message(message.complete()),
            None => Decoded::Fragment,
        })
    }
}

/// As a rule a message is one frame, and all of it has come.
fn take_message(mut frame: Frame, input: &mut &[u8]) -> Result<Decoded, TransportError> {
    let mut message = PartialMessage::begin(frame.opcode);
    message.data.reserve_exact(frame.remaining);
    frame.take_payload(input, &mut message.data);
    message.check_text(true)?;
    Ok(Decoded::Message(message.complete()))
}

impl Frame {
    /// Whether it is a whole message, and so many bytes are all of its payload.
    fn is_message(&self, arrived: usize) -> bool {
        self.is_final && !self.opcode.is_control() && self.remaining <= arrived
    }

    /// Makes room for what has come of the payload, and for more in proportion to what has come of
    /// the message: never for what a length claims. A message in one frame gets what it needs, no
    /// more.
    fn make_room(&self, arrived: usize, data: &mut Vec<u8>) {
        let arrived = arrived.min(self.remaining);
        if data.capacity() - data.len() >= arrived {
            return;
        }
        let in_proportion = FIRST_ROOM_BYTES.max(2 * (data.len() + arrived)) - data.len();
        data.reserve_exact(if self.is_final {
            self.remaining.min(in_proportion)
        } else {
            in_proportion
        });
    }

    /// Moves what there is of the payload to `out`, without its mask.
    fn take_payload(&mut self, input: &mut &[u8], out: &mut Vec<u8>) {
        let (payload, rest) = input.split_at(self.remaining.min(input.len()));
        *input = rest;
        self.remaining -= payload.len();
        mask::append(out, payload, self.mask);
        self.mask = self.mask.map(|mask| mask::advanced(mask, payload.len()));
    }
}

impl PartialMessage {
    fn begin(opcode: Opcode) -> Self {
        PartialMessage {
            kind: match opcode {
                Opcode::Text => MessageKind::Text,
                _ => MessageKind::Binary,
            },
            data: Vec::new(),
            valid_bytes: 0,
        }
    }

    /// Refuses text that no further bytes would make UTF-8 (RFC 6455 §8.1). A character may be
    /// divided between two frames of a message.
    fn check_text(&mut self, is_complete: bool) -> Result<(), TransportError> {
        if self.kind == MessageKind::Binary {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.valid_bytes..]) {
            Ok(text) => self.valid_bytes += text.len(),
            Err(error) if error.error_len().is_none() && !is_complete => {
                self.valid_bytes += error.valid_up_to();
            }
            Err(_) => return Err(invalid_data("a text that is not UTF-8")),
        }
        Ok(())
    }

    fn complete(mut self) -> Message {
        // Without effect unless it came in fragments: else the length was known.
        self.data.shrink_to_fit();
        Message {
            kind: self.kind,
            data: Bytes::from(self.data),
        }
    }
}

/// RFC 6455 §5.5.1.
fn close_body(payload: &[u8]) -> Result<Option<(CloseCode, String)>, TransportError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(violation("half a close code"))
        };
    };
    let code = CloseCode::new(u16::from_be_bytes(*code));
    if !may_be_sent(code) {
        return Err(violation("a close code that must not be sent"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.to_owned()))),
        Err(_) => Err(invalid_data("a reason that is not UTF-8")),
    }
}

/// Whether a Close frame may hold this code: those that are defined, and those left to libraries
/// and applications (RFC 6455 §7.4, and IANA's registry).
pub(super) fn may_be_sent(code: CloseCode) -> bool {
    matches!(code.value(), 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn invalid_data(message: &str) -> TransportError {
    TransportError::Violation {
        code: INVALID_DATA,
        message: message.to_owned(),
    }
}

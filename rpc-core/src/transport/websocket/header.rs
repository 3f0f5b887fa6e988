//! The header of a frame (RFC 6455 §5.2).

use super::{Role, violation};
use crate::transport::TransportError;

/// The longest header there is: two bytes, a length of eight, a mask of four.
pub(super) const MAX_HEADER_BYTES: usize = 14;

/// The most that the payload of a control frame may hold (RFC 6455 §5.5).
pub(super) const MAX_CONTROL_BYTES: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// In place of a length: two bytes with the length follow, or eight.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// What a frame is for (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn new(value: u8) -> Option<Opcode> {
        Some(match value {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// Whether the frame may come between those of a message.
    pub(super) fn is_control(self) -> bool {
        self as u8 >= Opcode::Close as u8
    }
}

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether the frame is the last one of its message.
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    /// How many bytes of payload follow: what the peer claims.
    pub(super) payload_bytes: u64,
    /// What the payload is combined with, if the client sends it.
    pub(super) mask: Option<[u8; 4]>,
}

impl Header {
    /// Reads the header at the start of `bytes`, and says how long it is. `None` if more bytes are
    /// needed.
    ///
    /// # Errors
    /// When no end may send this header, or `sender` may not: as soon as the bytes show it.
    pub(super) fn parse(
        bytes: &[u8],
        sender: Role,
    ) -> Result<Option<(Header, usize)>, TransportError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(violation("a reserved bit is set"));
        }
        let is_final = first & FIN != 0;
        let Some(opcode) = Opcode::new(first & 0x0f) else {
            return Err(violation("a reserved opcode"));
        };
        let is_masked = second & MASKED != 0;
        match (is_masked, sender) {
            (true, Role::Client) | (false, Role::Server) => {}
            (false, Role::Client) => return Err(violation("a frame of a client without a mask")),
            (true, Role::Server) => return Err(violation("a frame of a server with a mask")),
        }
        let length = second & !MASKED;
        if opcode.is_control() {
            if !is_final {
                return Err(violation("a control frame in fragments"));
            }
            if usize::from(length) > MAX_CONTROL_BYTES {
                return Err(violation("a control frame of more than 125 bytes"));
            }
        }
        let (payload_bytes, least, rest) = match length {
            TWO_BYTES => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), 126, rest),
                None => return Ok(None),
            },
            EIGHT_BYTES => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
                None => return Ok(None),
            },
            length => (u64::from(length), 0, rest),
        };
        if payload_bytes < least {
            return Err(violation("a length in more bytes than it needs"));
        }
        if payload_bytes > i64::MAX as u64 {
            return Err(violation("a length above 2^63"));
        }
        let (mask, rest) = match rest.split_first_chunk() {
            Some((mask, rest)) if is_masked => (Some(*mask), rest),
            None if is_masked => return Ok(None),
            _ => (None, rest),
        };
        let header = Header {
            is_final,
            opcode,
            payload_bytes,
            mask,
        };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Appends the header, its length in as few bytes as possible.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; MAX_HEADER_BYTES];
        let mut end = 2;
        bytes[0] = self.opcode as u8 | if self.is_final { FIN } else { 0 };
        bytes[1] = if self.mask.is_some() { MASKED } else { 0 };
        let mut append = |more: &[u8]| {
            bytes[end..end + more.len()].copy_from_slice(more);
            end += more.len();
        };
        let length = match self.payload_bytes {
            length @ 0..126 => length as u8,
            length @ 126..0x1_0000 => {
                append(&(length as u16).to_be_bytes());
                TWO_BYTES
            }
            length => {
                append(&length.to_be_bytes());
                EIGHT_BYTES
            }
        };
        if let Some(mask) = &self.mask {
            append(mask);
        }
        bytes[1] |= length;
        out.extend_from_slice(&bytes[..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Around each change of the length's form.
    const LENGTHS: [(u64, usize); 9] = [
        (0, 2),
        (1, 2),
        (125, 2),
        (126, 4),
        (127, 4),
        (0xffff, 4),
        (0x1_0000, 10),
        (0x1_0001, 10),
        (i64::MAX as u64, 10),
    ];

    fn encoded(header: &Header) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_header_is_read_as_it_was_written_at_every_boundary_of_lengths() {
        for (payload_bytes, header_bytes) in LENGTHS {
            for (mask, sender) in [(None, Role::Server), (Some([1, 2, 3, 4]), Role::Client)] {
                let header = Header {
                    is_final: payload_bytes % 2 == 0,
                    opcode: Opcode::Binary,
                    payload_bytes,
                    mask,
                };
                let bytes = encoded(&header);
                assert_eq!(
                    bytes.len(),
                    header_bytes + mask.map_or(0, |mask| mask.len())
                );
                for end in 0..bytes.len() {
                    assert!(Header::parse(&bytes[..end], sender).unwrap().is_none());
                }
                let mut more = bytes.clone();
                more.extend_from_slice(b"payload");
                let parsed = Header::parse(&more, sender).unwrap();
                assert_eq!(parsed, Some((header, bytes.len())));
            }
        }
    }

    #[test]
    fn headers_look_as_in_the_examples_of_the_rfc() {
        let header = |opcode, payload_bytes, mask| {
            encoded(&Header {
                is_final: true,
                opcode,
                payload_bytes,
                mask,
            })
        };
        // RFC 6455 §5.7.
        assert_eq!(header(Opcode::Text, 5, None), [0x81, 0x05]);
        assert_eq!(
            header(Opcode::Text, 5, Some([0x37, 0xfa, 0x21, 0x3d])),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]
        );
        assert_eq!(header(Opcode::Ping, 5, None), [0x89, 0x05]);
        assert_eq!(header(Opcode::Binary, 256, None), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(
            header(Opcode::Binary, 65536, None),
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn two_bytes_are_enough_to_refuse_what_needs_no_more() {
        for bytes in [
            // Reserved bits and opcodes, a client's mask that is missing, fragmented and long
            // control frames.
            [0xc2, 0x80],
            [0xa2, 0x80],
            [0x92, 0x80],
            [0x83, 0x80],
            [0x8b, 0x80],
            [0x8f, 0x80],
            [0x82, 0x00],
            [0x09, 0x80],
            [0x89, 0xfe],
        ] {
            assert!(
                Header::parse(&bytes, Role::Client).is_err(),
                "{bytes:02x?} was taken"
            );
        }
    }
}

//! Masking, which keeps whoever chooses a client's payloads from choosing the bytes on the wire
//! (RFC 6455 §5.3, §10.3).

/// So much is copied at once, and then combined with the mask while it is in the first level of the
/// cache. A multiple of the mask's length.
///
/// No more even where there is no mask: from 2 KiB on, glibc's `memcpy` may use an instruction that
/// takes more than ten times as long on some processors if the target is a few bytes behind the
/// source modulo 4096, which is just where it is behind a header.
const BLOCK_BYTES: usize = 1 << 10;

/// A mask for one frame. Neither the application nor a server that has seen all masks before may be
/// able to predict it, so it comes from the thread's generator of the `rand` crate: ChaCha, seeded
/// by the operating system, at a few nanoseconds for a mask.
pub(super) fn fresh() -> [u8; 4] {
    rand::random()
}

/// Appends bytes, combined with the mask, if there is one, of which the first byte goes with the
/// first of `bytes`. Masks what is not masked, and the other way round.
pub(super) fn append(out: &mut Vec<u8>, bytes: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(bytes.len());
    for block in bytes.chunks(BLOCK_BYTES) {
        let start = out.len();
        out.extend_from_slice(block);
        if let Some(mask) = mask {
            apply(&mut out[start..], mask);
        }
    }
}

/// The mask for what follows `bytes` bytes that it was applied to.
pub(super) fn advanced(mut mask: [u8; 4], bytes: usize) -> [u8; 4] {
    mask.rotate_left(bytes % 4);
    mask
}

fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn masked_bytewise(bytes: &[u8]) -> Vec<u8> {
        let mask = MASK.into_iter().cycle();
        bytes
            .iter()
            .zip(mask)
            .map(|(byte, mask)| byte ^ mask)
            .collect()
    }

    #[test]
    fn every_length_is_masked_byte_by_byte() {
        let lengths = (0..70)
            .chain(BLOCK_BYTES - 9..BLOCK_BYTES + 9)
            .chain([65535, 65536]);
        for length in lengths {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            let mut out = vec![1, 2, 3];
            append(&mut out, &bytes, Some(MASK));
            assert_eq!(out[..3], [1, 2, 3]);
            assert_eq!(out[3..], masked_bytewise(&bytes), "{length} bytes");
            out.clear();
            append(&mut out, &bytes, None);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn pieces_are_masked_as_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        let whole = masked_bytewise(&bytes);
        for cut in 0..bytes.len() {
            let mut out = Vec::new();
            append(&mut out, &bytes[..cut], Some(MASK));
            append(&mut out, &bytes[cut..], Some(advanced(MASK, cut)));
            assert_eq!(out, whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_unmasked() {
        let mut out = Vec::new();
        append(&mut out, &[0x7f, 0x9f, 0x4d, 0x51, 0x58], Some(MASK));
        assert_eq!(out, b"Hello");
    }
}

//! Reader of WebSocket frames as servers send them, and of the `seq` in a Socket.IO event.

use std::sync::LazyLock;

use anyhow::{Result, bail};
use memchr::memmem::{Finder, FinderRev};

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// Frame of a server: complete and unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Length with the head.
    pub length: usize,
}

/// Reads the frame at the beginning of `bytes`; `None` if it is not complete yet.
pub fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0xF0 != 0x80 {
        bail!("a frame that is fragmented, compressed or no frame at all: it begins with {first:#04x}");
    }
    if second & 0x80 != 0 {
        bail!("a server masked a frame");
    }
    let (head, length) = match second {
        126 => match bytes.get(2..4) {
            Some(length) => (4, usize::from(u16::from_be_bytes(length.try_into()?))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(length.try_into()?))?),
            None => return Ok(None),
        },
        length => (2, usize::from(length)),
    };
    if length > MAX {
        bail!("a frame of {length} bytes");
    }
    Ok(bytes.get(head..head + length).map(|payload| Frame { opcode: first & 0x0F, payload, length: head + length }))
}

/// Longest frame that a server may send here.
const MAX: usize = 16 << 20;

const SEQ: &[u8] = b"\"seq\":";
static LAST_SEQ: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(SEQ));
static FIRST_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SEQ));
/// Length of the part of an event, at its end, that is searched first.
const TAIL: usize = 128;

/// The last `"seq":` in an event, which servers write after the data.
pub fn seq(payload: &[u8]) -> Option<u64> {
    position(payload).and_then(|at| number(&payload[at..]))
}

/// Position of the first digit of that number.
pub fn position(payload: &[u8]) -> Option<usize> {
    let start = payload.len().saturating_sub(TAIL);
    if let Some(at) = FIRST_SEQ.find(&payload[start..]) {
        return Some(start + at + SEQ.len());
    }
    LAST_SEQ.rfind(payload).map(|at| at + SEQ.len())
}

fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    let mut value: Option<u64> = None;
    for digit in digits {
        value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit - b'0'))?);
    }
    value
}

/// Text frame of a server.
pub fn from_server(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    push_length(&mut frame, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// Frame of a client. Its mask is zero, so that the payload stays as it is.
pub fn from_client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    push_length(&mut frame, payload.len(), 0x80);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn push_length(frame: &mut Vec<u8>, length: usize, masked: u8) {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.push(masked | short),
        (_, Ok(long)) => {
            frame.push(masked | 126);
            frame.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_each_length_is_read_back_and_its_beginnings_are_incomplete() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let bytes = from_server(&payload);
            let frame = read(&bytes).expect("a frame").expect("a whole frame");
            assert_eq!((frame.opcode, frame.payload.len(), frame.length), (TEXT, length, bytes.len()));
            for end in [0, 1, 3, 9, bytes.len() - 1].into_iter().filter(|end| *end < bytes.len()) {
                assert_eq!(read(&bytes[..end]).expect("a beginning"), None, "{length}: {end}");
            }
        }
    }

    #[test]
    fn the_next_frame_begins_where_the_first_one_ends() {
        let bytes = [from_server(b"2"), from_server(b"42[\"a\"]")].concat();
        let first = read(&bytes).expect("a frame").expect("whole");
        let second = read(&bytes[first.length..]).expect("a frame").expect("whole");
        assert_eq!((first.payload, second.payload), (&b"2"[..], &b"42[\"a\"]"[..]));
    }

    #[test]
    fn fragments_masked_and_compressed_frames_are_refused() {
        for bytes in [[0x01, 0x00], [0xC1, 0x00], [0x81, 0x80]] {
            read(&bytes).expect_err("no frame that a server may send here");
        }
    }

    #[test]
    fn a_seq_is_found_at_the_end_and_before_a_long_end() {
        let event = br#"42["lead:updated",{"lead":{},"seq":1042,"epoch":"e"}]"#;
        assert_eq!(seq(event), Some(1042));
        let long = format!(r#"42["lead:updated",{{"seq":7,"lead":"{}"}}]"#, "x".repeat(500));
        assert_eq!(seq(long.as_bytes()), Some(7));
        assert_eq!((seq(b"42[\"x\",{}]"), seq(b"\"seq\":"), seq(b"\"seq\":99999999999999999999")), (None, None, None));
    }
}

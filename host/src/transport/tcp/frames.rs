//! WebSocket frames of a client, inspected as they come in and before the engine gets them.
//!
//! The engine reports that a transport was closed, but not how: a page that is left says so in its Close frame, and
//! must not count as lost. And the engine ends the session over an event name that it cannot read; such a name gets a
//! stand-in here (`event_names.rs`). Frame heads are not masked, so everything else is passed over unread.

use bytes::{Buf, BytesMut};

use crate::transport::event_names::{self, INSERTED, PacketName};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Way in which a client ended its WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// On purpose: Close 1000 or 1001, or Engine.IO's own close packet.
    Left,
    /// With another Close frame. It has no code if a stock client gives up on a server to reconnect at once.
    GaveUp,
}

/// Reader of one client's frames, in pieces of any size.
#[derive(Default)]
pub(crate) struct Frames {
    /// Number of payload bytes of the current frame that are still to come.
    rest: u64,
    /// Beginning of a frame that is too short to inspect.
    held: Vec<u8>,
    /// Bytes to be handed on before anything else.
    ready: BytesMut,
    ending: Option<Ending>,
    /// Number of frames that have begun since the last call of `counted`.
    begun: u32,
}

/// Reason why passing over frames stopped, after the bytes that can be handed on as they are.
enum Next {
    Nothing,
    Unclear,
    /// A frame that needs a stand-in, ahead of this byte of its payload.
    Unreadable(FrameHead, usize),
}

/// Head of a frame.
#[derive(Clone, Copy)]
struct FrameHead {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: u64,
    bytes: usize,
}

impl Frames {
    /// Takes bytes in and returns how many of them are to be handed on as they are. The rest comes out of
    /// [`hand_on`](Self::hand_on), some of it not before more was taken in.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let plain = if self.held.is_empty() { self.pass(bytes).0 } else { 0 };
        if plain < bytes.len() {
            self.held.extend_from_slice(&bytes[plain..]);
            self.work_off();
        }
        plain
    }

    /// Returns bytes to be handed on, at most `room`.
    pub(crate) fn hand_on(&mut self, room: usize) -> BytesMut {
        let bytes = self.ready.len().min(room);
        self.ready.split_to(bytes)
    }

    /// Returns the number of frames that have begun since the last call.
    pub(crate) fn counted(&mut self) -> u32 {
        std::mem::take(&mut self.begun)
    }

    /// Returns how the client ended its WebSocket, if it has said so.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Moves what can be decided of `held` to `ready`.
    fn work_off(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut left = held.as_slice();
        loop {
            let (plain, next) = self.pass(left);
            self.ready.extend_from_slice(&left[..plain]);
            left.advance(plain);
            let Next::Unreadable(head, at) = next else { break };
            left.advance(head.bytes);
            FrameHead { payload: head.payload + INSERTED.len() as u64, ..head }.write(&mut self.ready);
            self.ready.extend_from_slice(&left[..at]);
            self.ready.extend((at..).zip(INSERTED).map(|(at, byte)| byte ^ head.mask_at(at)));
            left.advance(at);
            self.rest = head.payload - at as u64;
            self.begun += 1;
        }
        self.held = left.to_vec();
    }

    /// Passes over whole frames, as long as they need no change.
    fn pass(&mut self, bytes: &[u8]) -> (usize, Next) {
        let mut at = 0;
        loop {
            let passed = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len() - at);
            self.rest -= passed as u64;
            at += passed;
            if at == bytes.len() {
                return (at, Next::Nothing);
            }
            let Some(head) = FrameHead::read(&bytes[at..]) else { return (at, Next::Unclear) };
            let begin = at + head.bytes;
            let payload =
                &bytes[begin..begin + (bytes.len() - begin).min(head.payload.try_into().unwrap_or(usize::MAX))];
            match head.look(payload) {
                PacketName::Unclear => return (at, Next::Unclear),
                PacketName::Unreadable(name) => return (at, Next::Unreadable(head, name)),
                PacketName::Close => self.ending = self.ending.or(Some(head.ending(payload))),
                PacketName::Other => {}
            }
            at = begin;
            self.rest = head.payload;
            self.begun += 1;
        }
    }
}

impl FrameHead {
    /// Parses a head; `None` if it is not complete yet.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let before = bytes.len();
        let (first, second) = (bytes.try_get_u8().ok()?, bytes.try_get_u8().ok()?);
        let payload = match second & 0x7f {
            126 => bytes.try_get_u16().ok()?.into(),
            127 => bytes.try_get_u64().ok()?,
            short => short.into(),
        };
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(bytes.try_get_u32().ok()?.to_be_bytes()),
        };
        Some(Self { first, mask, payload, bytes: before - bytes.len() })
    }

    fn write(self, into: &mut BytesMut) {
        let mask = if self.mask.is_some() { 0x80 } else { 0 };
        into.extend_from_slice(&[self.first]);
        match self.payload {
            short @ 0..126 => into.extend_from_slice(&[mask | short as u8]),
            middle @ 126..0x1_0000 => {
                into.extend_from_slice(&[mask | 126]);
                into.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            long => {
                into.extend_from_slice(&[mask | 127]);
                into.extend_from_slice(&long.to_be_bytes());
            }
        }
        into.extend(self.mask.into_iter().flatten());
    }

    /// Inspects the payload, as far as it has arrived.
    fn look(&self, payload: &[u8]) -> PacketName {
        let is_whole = payload.len() as u64 == self.payload;
        match self.first & 0x0f {
            TEXT => event_names::look(|at| Some(payload.get(at)? ^ self.mask_at(at)), is_whole),
            CLOSE if payload.len() >= 2 || is_whole => PacketName::Close,
            CLOSE => PacketName::Unclear,
            _ => PacketName::Other,
        }
    }

    fn ending(&self, payload: &[u8]) -> Ending {
        if self.first & 0x0f == TEXT {
            return Ending::Left;
        }
        let code = payload.first_chunk().map(|[high, low]| [high ^ self.mask_at(0), low ^ self.mask_at(1)]);
        match code.map(u16::from_be_bytes) {
            Some(1000 | 1001) => Ending::Left,
            _ => Ending::GaveUp,
        }
    }

    fn mask_at(&self, at: usize) -> u8 {
        self.mask.map_or(0, |mask| mask[at % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        FrameHead { first, mask: Some(MASK), payload: payload.len() as u64, bytes: 0 }.write(&mut bytes);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes.to_vec()
    }

    fn text(payload: &str) -> Vec<u8> {
        frame(0x80 | TEXT, payload.as_bytes())
    }

    fn close(code: u16) -> Vec<u8> {
        frame(0x80 | CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat())
    }

    /// Returns what comes out of bytes that come in in pieces of that size.
    fn through(frames: &mut Frames, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            let plain = frames.take(piece);
            out.extend_from_slice(&piece[..plain]);
            loop {
                let more = frames.hand_on(3);
                if more.is_empty() {
                    break;
                }
                out.extend_from_slice(&more);
            }
        }
        out
    }

    #[test]
    fn frames_pass_unchanged_except_for_placeholder_names_in_any_chunk_size() {
        let long = format!("42[\"note\",\"{}\"]", "x".repeat(70_000));
        let names = ["42[7,{}]".to_owned(), format!("4212[\"a\\\"b\",\"{}\"]", "x".repeat(110))];
        let stood_in = ["42[\"=\",7,{}]".to_owned(), format!("4212[\"=\",\"a\\\"b\",\"{}\"]", "x".repeat(110))];
        let plain = [text("3"), text("42[\"lead:subscribe\",{}]"), frame(0x82, &[b'1'; 300]), text(&long), text("")];
        for piece in [1, 2, 3, 7, 64, 4096, usize::MAX] {
            let mut frames = Frames::default();
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for (at, frame) in plain.iter().enumerate() {
                sent.extend_from_slice(frame);
                expected.extend_from_slice(frame);
                sent.extend(text(&names[at % 2]));
                expected.extend(text(&stood_in[at % 2]));
            }
            let out = through(&mut frames, &sent, piece.min(sent.len()));
            // A piece may end inside a name, which then gets a stand-in that it would not need.
            let needless = text("42[\"=\",\"lead:subscribe\",{}]");
            let without = |bytes: Vec<u8>| match bytes.windows(needless.len()).position(|part| part == needless) {
                Some(at) => [&bytes[..at], &plain[1], &bytes[at + needless.len()..]].concat(),
                None => bytes,
            };
            if piece >= 64 {
                assert_eq!(without(out), expected, "in pieces of {piece}");
            } else {
                let (long, needless) = (text(&long), text(&long.replacen("\"note\"", "\"=\",\"note\"", 1)));
                let out = without(out);
                let at = out.windows(needless.len()).position(|part| part == needless).expect("a long frame");
                let out = [&out[..at], &long, &out[at + needless.len()..]].concat();
                assert_eq!(out, expected, "in pieces of {piece}");
            }
            assert_eq!(frames.ending(), None);
            assert!(frames.held.is_empty());
        }
    }

    #[test]
    fn a_clean_close_is_detected_and_the_first_close_wins() {
        let endings = [
            (vec![close(1000)], Some(Ending::Left)),
            (vec![close(1001)], Some(Ending::Left)),
            (vec![text("1")], Some(Ending::Left)),
            (vec![text("1"), close(1011)], Some(Ending::Left)),
            (vec![close(1006)], Some(Ending::GaveUp)),
            (vec![close(3000)], Some(Ending::GaveUp)),
            (vec![frame(0x80 | CLOSE, &[])], Some(Ending::GaveUp)),
            (vec![text("42[\"x\",\"1\"]"), frame(0x82, b"1"), text("41")], None),
        ];
        for (sent, expected) in endings {
            for piece in [1, 5, 1000] {
                let mut frames = Frames::default();
                let sent = sent.concat();
                // In small pieces, some names get a stand-in that they would not need.
                let out = through(&mut frames, &sent, piece);
                assert!(piece < 1000 || out == sent, "{sent:?}");
                assert_eq!(frames.ending(), expected, "{sent:?}");
            }
        }
    }

    #[test]
    fn at_most_one_packet_head_is_buffered_for_any_declared_length() {
        let mut frames = Frames::default();
        let endless = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4], b"42["].concat();
        through(&mut frames, &endless, 1);
        for _ in 0..10_000 {
            through(&mut frames, b" ", 1);
            assert!(frames.held.len() < 600);
        }
        assert!(frames.held.is_empty(), "it gave up on that frame");
    }
}

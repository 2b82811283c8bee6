//! WebSocket frames of the engine, followed as they leave: where one has ended and the next has not begun, and which
//! packets were in them.
//!
//! Only there may a ready frame of ours go between them. Frames of a server are not masked, so their heads can be
//! read, and their payloads are passed over.

/// Beginning of the response after which frames follow.
const SWITCHING: &[u8] = b"HTTP/1.1 101";
const HEAD_END: &[u8] = b"\r\n\r\n";
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Follower of what the engine writes to one connection, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct EngineFrames {
    phase: Phase,
    /// Head of the current frame, as far as it has left.
    head: [u8; 10],
    head_bytes: usize,
    /// Number of payload bytes of the current frame that are still to come; meaningful once its head has left.
    rest: u64,
    is_in_payload: bool,
    /// First two bytes of the current message, of which the kind of packet can be told.
    kind: [u8; 2],
    kind_bytes: usize,
    /// Set between the first and the last frame of a message.
    is_continued: bool,
    counts: PacketCounts,
}

/// Numbers of Socket.IO packets that have left whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PacketCounts {
    /// CONNECT packets: each tells a client that it is connected.
    pub(crate) connects: u64,
    /// Events and acknowledgements.
    pub(crate) messages: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Requests and responses.
    #[default]
    Http,
    /// The head of the response 101 is leaving; so many bytes of its end have matched.
    Switching(usize),
    Frames,
    /// The engine has ended the session, or has written what cannot be followed.
    Shut,
}

impl PacketCounts {
    /// Counts an Engine.IO packet, of which this is the beginning.
    pub(crate) fn count(&mut self, packet: &[u8]) {
        match packet {
            [b'4', b'0', ..] => self.connects += 1,
            [b'4', b'2' | b'3', ..] => self.messages += 1,
            _ => {}
        }
    }
}

impl EngineFrames {
    /// Follows one write: what was offered, of which the kernel took the first `taken` bytes. `is_web_socket` is set
    /// once a request to switch protocols was granted.
    pub(crate) fn follow(&mut self, offered: &[u8], taken: usize, is_web_socket: bool) {
        if self.phase == Phase::Http && is_web_socket {
            // Another response may be ahead of it; nothing is followed then.
            self.phase = if offered.starts_with(SWITCHING) { Phase::Switching(0) } else { Phase::Shut };
        }
        let mut bytes = &offered[..taken];
        while !bytes.is_empty() {
            let passed = match self.phase {
                Phase::Http | Phase::Shut => return,
                Phase::Switching(matched) => self.pass_response(bytes[0], matched),
                Phase::Frames if self.is_in_payload => self.pass_payload(bytes),
                Phase::Frames => self.pass_head(bytes[0]),
            };
            bytes = &bytes[passed..];
        }
    }

    /// Returns true if a frame of another may go next.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.phase == Phase::Frames && self.head_bytes == 0 && !self.is_continued
    }

    /// Lets no frame of another go any more.
    pub(crate) fn shut(&mut self) {
        self.phase = Phase::Shut;
    }

    /// Returns true if no frame of another may ever go.
    pub(crate) fn is_shut(&self) -> bool {
        self.phase == Phase::Shut
    }

    pub(crate) fn counts(&self) -> PacketCounts {
        self.counts
    }

    fn pass_response(&mut self, byte: u8, matched: usize) -> usize {
        let matched = match (byte == HEAD_END[matched], byte == HEAD_END[0]) {
            (true, _) => matched + 1,
            (false, true) => 1,
            (false, false) => 0,
        };
        self.phase = if matched == HEAD_END.len() { Phase::Frames } else { Phase::Switching(matched) };
        1
    }

    fn pass_head(&mut self, byte: u8) -> usize {
        self.head[self.head_bytes] = byte;
        self.head_bytes += 1;
        if self.head_bytes < 2 {
            return 1;
        }
        let (first, second) = (self.head[0], self.head[1]);
        // Reserved bits say that the payload is compressed; a server masks nothing (RFC 6455, sections 5.1 and 5.2).
        if first & 0x70 != 0 || second & 0x80 != 0 {
            self.phase = Phase::Shut;
            return 1;
        }
        let length_bytes = match second {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        if self.head_bytes < 2 + length_bytes {
            return 1;
        }
        let long = self.head[2..2 + length_bytes].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte));
        self.rest = if length_bytes == 0 { second.into() } else { long };
        self.is_in_payload = true;
        if self.opcode() == TEXT {
            self.kind_bytes = 0;
        }
        if self.rest == 0 {
            self.end_frame();
        }
        1
    }

    fn pass_payload(&mut self, bytes: &[u8]) -> usize {
        let passed = bytes.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX));
        if matches!(self.opcode(), TEXT | CONTINUATION) {
            for byte in bytes[..passed].iter().take(self.kind.len() - self.kind_bytes) {
                self.kind[self.kind_bytes] = *byte;
                self.kind_bytes += 1;
            }
        }
        self.rest -= passed as u64;
        if self.rest == 0 {
            self.end_frame();
        }
        passed
    }

    fn end_frame(&mut self) {
        let (opcode, is_last) = (self.opcode(), self.head[0] & 0x80 != 0);
        (self.head_bytes, self.is_in_payload) = (0, false);
        match opcode {
            CLOSE => self.phase = Phase::Shut,
            TEXT | CONTINUATION => {
                self.is_continued = !is_last;
                if is_last {
                    self.end_packet();
                }
            }
            // A binary message, or a ping between two frames of a message.
            2 => self.is_continued = !is_last,
            _ => {}
        }
    }

    fn end_packet(&mut self) {
        match self.kind[..self.kind_bytes] {
            // DISCONNECT, and Engine.IO's own close.
            [b'4', b'1'] | [b'1'] => self.phase = Phase::Shut,
            ref kind => self.counts.count(kind),
        }
    }

    fn opcode(&self) -> u8 {
        self.head[0] & 0x0f
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::line::text_frame;

    const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\r\n\r\n";

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, payload.len() as u8];
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Returns the places between frames, counted in bytes from the first frame on.
    fn places(frames: &mut EngineFrames, bytes: &[u8], piece: usize) -> Vec<usize> {
        frames.follow(RESPONSE.as_bytes(), RESPONSE.len(), true);
        let mut places = Vec::new();
        let mut at = 0;
        for piece in bytes.chunks(piece) {
            frames.follow(piece, piece.len(), true);
            at += piece.len();
            places.extend(frames.is_between_frames().then_some(at));
        }
        places
    }

    #[test]
    fn frames_of_all_lengths_end_where_they_end_in_pieces_of_any_size() {
        let middle = format!("42[\"{}\"]", "x".repeat(300));
        let long = format!("43[\"{}\"]", "x".repeat(70_000));
        let packets = ["0{}", "40{\"sid\":\"x\"}", "42[\"a\"]", &middle, &long, "", "2", "44{}", "431[]"];
        let frames: Vec<_> = packets.iter().map(|packet| text_frame(&[packet])).collect();
        let bytes = frames.concat();
        let ends: Vec<usize> = frames
            .iter()
            .scan(0, |at, frame| {
                *at += frame.len();
                Some(*at)
            })
            .collect();
        for piece in [1, 2, 3, 7, 100, 4096, bytes.len()] {
            let mut follower = EngineFrames::default();
            let seen = places(&mut follower, &bytes, piece);
            let expected: Vec<usize> =
                ends.iter().copied().filter(|end| end % piece == 0 || *end == bytes.len()).collect();
            assert_eq!(seen, expected, "in pieces of {piece}");
            assert_eq!(follower.counts(), PacketCounts { connects: 1, messages: 4 });
        }
    }

    #[test]
    fn nothing_goes_between_the_frames_of_one_message() {
        let bytes = [frame(1, b"4"), frame(0x89, b""), frame(0, b"2["), frame(0x80, b"]"), frame(0x81, b"2")].concat();
        let mut follower = EngineFrames::default();
        assert_eq!(places(&mut follower, &bytes, 1), [12, 15]);
        assert_eq!(follower.counts(), PacketCounts { connects: 0, messages: 1 });
    }

    #[test]
    fn the_way_is_shut_by_a_close_a_disconnect_and_what_cannot_be_followed() {
        for last in
            [frame(0x88, b"\x03\xe8"), frame(0x81, b"1"), frame(0x81, b"41"), frame(0xc1, b"x"), vec![0x81, 0x81]]
        {
            let mut follower = EngineFrames::default();
            let bytes = [frame(0x81, b"42[]"), last.clone(), frame(0x81, b"42[]")].concat();
            assert_eq!(places(&mut follower, &bytes, 1), [6], "after {last:?}");
            assert!(follower.is_shut());
        }
    }

    #[test]
    fn a_response_that_switches_nothing_opens_nothing() {
        for (response, is_web_socket) in [("HTTP/1.1 200 OK\r\n\r\n", true), (RESPONSE, false)] {
            let mut follower = EngineFrames::default();
            follower.follow(response.as_bytes(), response.len(), is_web_socket);
            follower.follow(&text_frame(&["2"]), 3, is_web_socket);
            assert!(!follower.is_between_frames());
        }
    }
}

//! Detector of the end of a request's head, in the bytes that a client sends. [`HeadEnd`] also reports if the client
//! sent more than it may before it is answered.

/// Finds the end of a request's head, after which frames begin if the request is for a WebSocket.
#[derive(Default)]
pub(crate) struct HeadEnd {
    /// Number of bytes of the empty line that ends a head which were read.
    matched: u8,
    is_whole: bool,
    /// Set when something came after the head.
    has_more: bool,
}

impl HeadEnd {
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.is_whole {
                self.has_more = true;
                return;
            }
            self.matched = match (self.matched, byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => self.matched + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            self.is_whole = self.matched == 4;
        }
    }

    /// Returns true if the client waits for the response to its head, as it has to.
    pub(crate) fn is_last(&self) -> bool {
        self.is_whole && !self.has_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_and_the_bytes_after_it_are_found() {
        let read = |parts: &[&str]| {
            let mut end = HeadEnd::default();
            parts.iter().for_each(|part| end.read(part.as_bytes()));
            end.is_last()
        };
        assert!(read(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n"]));
        assert!(read(&["GET / HTTP/1.1\r\nHost: x\r", "\n\r", "\n"]));
        assert!(read(&["GET / HTTP/1.1\r\n\r\r\n\r\n"]));
        assert!(!read(&["GET / HTTP/1.1\r\nHost: x\r\n"]));
        assert!(!read(&["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{1}"]));
        assert!(!read(&[]));
    }
}

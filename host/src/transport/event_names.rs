//! Event names that socketioxide cannot read: numbers, and texts that JSON has to escape.
//!
//! It ends the transport of a client that sends one, where the reference server hands the event on. So such an event
//! gets a stand-in for a name before the engine sees it, `["=",7,{}]` in the place of `[7,{}]`, and `IncomingEvent`
//! reads the element after it. The stand-in has four bytes, so that the mask of a WebSocket frame still fits what
//! follows.

/// Stand-in name, which means: the next element is the name.
pub(crate) const STAND_IN: &str = "=";
pub(crate) const INSERTED: [u8; 4] = *b"\"=\",";
/// Position at which the array of an event begins at the latest: after the types, a namespace, attachments and an ack
/// id.
const MAX_HEAD: usize = 256;
/// Separator between the packets of one polling payload.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// Kind of an Engine.IO packet, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketName {
    /// The client ends the session.
    Close,
    /// An event whose name needs a stand-in, ahead of this byte.
    Unreadable(usize),
    Other,
    /// More bytes are needed to decide.
    Unclear,
}

/// Inspects the first bytes of a packet; `byte` returns them one by one, as many as there are yet.
pub(crate) fn look(byte: impl Fn(usize) -> Option<u8>, is_whole: bool) -> PacketName {
    let incomplete = if is_whole { PacketName::Other } else { PacketName::Unclear };
    match (byte(0), byte(1)) {
        (Some(b'1'), _) => return PacketName::Close,
        (None, _) | (Some(b'4'), None) => return incomplete,
        (Some(b'4'), Some(b'2' | b'5')) => {}
        _ => return PacketName::Other,
    }
    let mut at = 2;
    loop {
        match byte(at) {
            Some(b'[') => break,
            None => return incomplete,
            Some(b'{' | b'"') => return PacketName::Other,
            Some(_) if at >= MAX_HEAD => return PacketName::Other,
            Some(_) => at += 1,
        }
    }
    let first = at + 1;
    let mut at = first;
    while matches!(byte(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        if at >= first + MAX_HEAD {
            return PacketName::Other;
        }
        at += 1;
    }
    match byte(at) {
        None => incomplete,
        // An array without a name is not an event, here as with the reference server.
        Some(b']') => PacketName::Other,
        Some(b'"') => loop {
            at += 1;
            match byte(at) {
                Some(b'"') => return PacketName::Other,
                Some(b'\\') => return PacketName::Unreadable(first),
                Some(_) => {}
                // A stand-in does no harm to any name, so the rest of a long one is not waited for.
                None if is_whole => return PacketName::Other,
                None => return PacketName::Unreadable(first),
            }
        },
        Some(_) => PacketName::Unreadable(first),
    }
}

/// Polling payload that a client posted, packet by packet.
pub(crate) struct Payload {
    pub(crate) packets: u32,
    pub(crate) ends_session: bool,
    /// Payload with the stand-ins that its events need; `None` if none does.
    pub(crate) changed: Option<Vec<u8>>,
}

pub(crate) fn look_at_payload(payload: &[u8]) -> Payload {
    let mut seen = Payload { packets: 0, ends_session: false, changed: None };
    let mut copied = 0;
    let mut begin = 0;
    for packet in payload.split(|byte| *byte == SEPARATOR) {
        seen.packets = seen.packets.saturating_add(1);
        match look(|at| packet.get(at).copied(), true) {
            PacketName::Unreadable(at) => {
                let changed = seen.changed.get_or_insert_default();
                changed.extend_from_slice(&payload[copied..begin + at]);
                changed.extend_from_slice(&INSERTED);
                copied = begin + at;
            }
            PacketName::Close => seen.ends_session = true,
            PacketName::Other | PacketName::Unclear => {}
        }
        begin += packet.len() + 1;
    }
    if let Some(changed) = &mut seen.changed {
        changed.extend_from_slice(&payload[copied..]);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str, is_whole: bool) -> PacketName {
        look(|at| text.as_bytes().get(at).copied(), is_whole)
    }

    #[test]
    fn only_number_and_escaped_event_names_are_unreadable() {
        for (text, expected) in [
            ("42[\"lead:subscribe\",{}]", PacketName::Other),
            ("42[7,{}]", PacketName::Unreadable(3)),
            ("4212[ -7]", PacketName::Unreadable(5)),
            ("42[null]", PacketName::Unreadable(3)),
            (r#"42["a\"b"]"#, PacketName::Unreadable(3)),
            ("451-/,7[7,{\"_placeholder\":true,\"num\":0}]", PacketName::Unreadable(8)),
            (r#"42["name",{"a":"\""}]"#, PacketName::Other),
            ("42[]", PacketName::Other),
            ("42{\"a\":[7]}", PacketName::Other),
            ("437[7]", PacketName::Other),
            ("2probe", PacketName::Other),
            ("1", PacketName::Close),
            ("", PacketName::Other),
            ("42", PacketName::Other),
            ("42[\"name", PacketName::Other),
        ] {
            assert_eq!(packet(text, true), expected, "{text}");
        }
    }

    #[test]
    fn an_incomplete_packet_is_unclear_until_its_name_is_known() {
        for begin in ["", "4", "42", "4217", "42[", "42[  "] {
            assert_eq!(packet(begin, false), PacketName::Unclear, "{begin:?}");
        }
        assert_eq!(packet("42[7", false), PacketName::Unreadable(3));
        assert_eq!(packet("42[\"lead:sub", false), PacketName::Unreadable(3), "which harms no name");
        assert_eq!(packet(&format!("42{}", "7".repeat(MAX_HEAD)), false), PacketName::Other);
        assert_eq!(packet(&format!("42[{}", " ".repeat(2 * MAX_HEAD)), false), PacketName::Other);
    }

    #[test]
    fn each_unreadable_event_of_a_payload_gets_a_placeholder_name() {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let changed = |payload: &str| look_at_payload(payload.as_bytes()).changed.map(text);
        assert_eq!(changed("3\u{1e}42[\"a\",{}]\u{1e}"), None);
        assert_eq!(
            changed("42[7]\u{1e}3\u{1e}421[\"a\\n\",1]\u{1e}42[\"b\"]").as_deref(),
            Some("42[\"=\",7]\u{1e}3\u{1e}421[\"=\",\"a\\n\",1]\u{1e}42[\"b\"]")
        );
    }

    #[test]
    fn payload_packets_are_counted_and_a_close_packet_is_detected() {
        let seen = |payload: &str| {
            let seen = look_at_payload(payload.as_bytes());
            (seen.packets, seen.ends_session)
        };
        assert_eq!((seen("3"), seen("3\u{1e}1"), seen("42[\"1\"]\u{1e}\u{1e}41")), ((1, false), (2, true), (3, false)));
    }
}

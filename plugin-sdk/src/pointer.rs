//! JSON Pointers (RFC 6901) as the host accepts them: checked when an answer leaves, and literals when they compile.

const MAX_POINTER: usize = 512;
const MAX_DEPTH: usize = 32;

/// JSON Pointer for an edit, checked at compile time.
///
/// ```
/// use leadwire_plugin_sdk::{Edit, pointer};
///
/// const PHONE: &str = pointer!("/lead/phone");
/// assert_eq!(Edit::remove(PHONE).check(), Ok(()));
/// ```
///
/// A pointer that the host would refuse does not compile, and the error says what to write:
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::{Edit, pointer};
/// Edit::remove(pointer!("lead/phone")); // a JSON Pointer must start with "/": write "/lead/phone", not "lead/phone"
/// ```
///
/// ```compile_fail
/// # use leadwire_plugin_sdk::{Edit, pointer};
/// Edit::set(pointer!("/seq"), 7); // /seq, /epoch, /lead/id and /lead/rev are written by the server alone
/// ```
#[macro_export]
macro_rules! pointer {
    ($text:expr) => {
        const { $crate::glue::pointer($text) }
    };
}

pub(crate) enum Wrong {
    Empty,
    Start,
    Long,
    Deep,
    Escape,
    Reserved,
}

/// Checks a pointer like the host does. It works on bytes, because it has to run at compile time.
pub(crate) const fn wrong(pointer: &str) -> Option<Wrong> {
    let bytes = pointer.as_bytes();
    if bytes.is_empty() {
        return Some(Wrong::Empty);
    }
    if bytes[0] != b'/' {
        return Some(Wrong::Start);
    }
    if bytes.len() > MAX_POINTER {
        return Some(Wrong::Long);
    }
    let is_of_event = is_within(bytes, b"/seq") || is_within(bytes, b"/epoch");
    if is_of_event || is_within(bytes, b"/lead/id") || is_within(bytes, b"/lead/rev") {
        return Some(Wrong::Reserved);
    }
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'/' => depth += 1,
            b'~' if at + 1 == bytes.len() || (bytes[at + 1] != b'0' && bytes[at + 1] != b'1') => {
                return Some(Wrong::Escape);
            }
            _ => {}
        }
        at += 1;
    }
    if depth > MAX_DEPTH { Some(Wrong::Deep) } else { None }
}

const fn is_within(pointer: &[u8], ancestor: &[u8]) -> bool {
    let mut at = 0;
    while at < ancestor.len() {
        if at == pointer.len() || pointer[at] != ancestor[at] {
            return false;
        }
        at += 1;
    }
    pointer.len() == ancestor.len() || pointer[at] == b'/'
}

pub(crate) fn check_pointer(pointer: &str) -> Result<(), String> {
    let Some(wrong) = wrong(pointer) else { return Ok(()) };
    let shown: String = pointer.chars().take(60).collect();
    let why = match wrong {
        Wrong::Reserved => return Err(format!("{shown} is written by the server alone")),
        Wrong::Empty => "leads to the whole payload: write where in it, as in \"/lead/phone\"".to_owned(),
        Wrong::Start => format!("must start with \"/\": write {:?}", format!("/{shown}")),
        Wrong::Long => format!("is longer than {MAX_POINTER} bytes"),
        Wrong::Deep => format!("is deeper than {MAX_DEPTH} levels"),
        Wrong::Escape => {
            "has a \"~\" that is followed by neither 0 nor 1: write \"~0\" for \"~\", and \"~1\" for \"/\" in a name"
                .to_owned()
        }
    };
    Err(format!("the JSON Pointer {shown:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_that_the_host_would_refuse_is_an_error_with_a_hint() {
        for (pointer, expected) in [
            ("", "\"\" leads to the whole payload: write where in it"),
            ("lead/phone", "\"lead/phone\" must start with \"/\": write \"/lead/phone\""),
            ("#/lead", "must start with \"/\""),
            ("/lead/~phone", "\"/lead/~phone\" has a \"~\" that is followed by neither 0 nor 1: write \"~0\""),
            ("/lead/~", "followed by neither"),
            ("/seq", "/seq is written by the server alone"),
            ("/epoch/x", "/epoch/x is written by the server alone"),
            ("/lead/id", "/lead/id is written by the server alone"),
            ("/lead/rev", "/lead/rev is written by the server alone"),
            (&format!("/{}", "a".repeat(MAX_POINTER)), "is longer than 512 bytes"),
            (&"/a".repeat(MAX_DEPTH + 1), "is deeper than 32 levels"),
        ] {
            assert!(check_pointer(pointer).is_err_and(|why| why.contains(expected)), "{pointer}");
        }
        for pointer in
            ["/", "/sequel", "/epochs/seq", "/lead/seq", "/lead/revenue", "/a~0b/~1", "/é", &"/a".repeat(MAX_DEPTH)]
        {
            assert_eq!(check_pointer(pointer), Ok(()), "{pointer}");
        }
    }
}

//! Small helpers for texts and numbers that cross the boundary between host and plugins.
//!
//! They never fail: a text is cut, and a number is capped.

/// Returns the first `max` bytes of a text, or fewer where a character would be split.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Converts a number of things or bytes to `usize`, capped at its maximum.
pub(crate) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

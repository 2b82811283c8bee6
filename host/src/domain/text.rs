//! Text that others wrote, made safe for one line of a terminal or a log.

use std::borrow::Cow;

/// Escapes what could end the line, move the cursor, colour the rest or turn the order of letters around:
/// control characters, line and paragraph separators, marks of direction.
///
/// ```
/// assert_eq!(leadwire::domain::text::one_line("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_unsafe(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        let text = "one\r\ntwo\t\u{1b}[2J\u{9b}31m\u{7f}\u{2028}\u{202e}three \u{e4}\u{1f600}";
        let escaped = one_line(text);
        assert_eq!(escaped, "one\\r\\ntwo\\t\\u{1b}[2J\\u{9b}31m\\u{7f}\\u{2028}\\u{202e}three \u{e4}\u{1f600}");
        assert!(!escaped.chars().any(is_unsafe));
        assert!(matches!(one_line("plain \u{e4}"), Cow::Borrowed(_)));
    }
}

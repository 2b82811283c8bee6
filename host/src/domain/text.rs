//! Escaping of text from others, so that it is safe in one line of a terminal or a log; suggestions for misspelt names.

use std::borrow::Cow;

/// Minimum likeness of a suggested name.
pub const LIKELY: f64 = 0.85;

/// Escapes characters that could end the line, move the cursor, colour the rest or reverse the order of letters:
/// control characters, line and paragraph separators, direction marks.
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
        if is_unsafe(letter) { escaped.extend(letter.escape_default()) } else { escaped.push(letter) }
    }
    Cow::Owned(escaped)
}

fn is_unsafe(letter: char) -> bool {
    let turns =
        matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Similarity of two names, from 0 to 1, ignoring case.
pub fn likeness(one: &str, other: &str) -> f64 {
    strsim::jaro_winkler(&one.to_lowercase(), &other.to_lowercase())
}

/// Returns the name that a misspelt one most likely means, for "did you mean".
///
/// ```
/// use leadwire::domain::text::nearest;
///
/// assert_eq!(nearest("on_failur", ["on_failure", "on_missing"]), Some("on_failure"));
/// assert_eq!(nearest("colour", ["on_failure", "on_missing"]), None);
/// ```
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.into_iter().map(|name| (likeness(name, word), name));
    rated
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .filter(|(likeness, _)| *likeness > LIKELY)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_are_removed() {
        let text = "one\r\ntwo\t\u{1b}[2J\u{9b}31m\u{7f}\u{2028}\u{202e}three \u{e4}\u{1f600}";
        let escaped = one_line(text);
        assert_eq!(escaped, "one\\r\\ntwo\\t\\u{1b}[2J\\u{9b}31m\\u{7f}\\u{2028}\\u{202e}three \u{e4}\u{1f600}");
        assert!(!escaped.chars().any(is_unsafe));
        assert!(matches!(one_line("plain \u{e4}"), Cow::Borrowed(_)));
    }
}

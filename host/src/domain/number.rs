//! Detection of numbers that JSON can express but a program cannot store exactly.
//!
//! It works on the text, because a parsed number no longer shows the loss.

/// Path of the first number in a JSON text that would not be returned exactly as it was written.
///
/// Integers are exact up to 64 bits, signed or unsigned; fractions, when their digits are those of a double.
/// The text must be valid JSON; otherwise the result is meaningless.
pub fn inexact(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut places: Vec<NumberPath<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => places.push(NumberPath::Member { name: "", is_next: true }),
            b'[' => places.push(NumberPath::Item(0)),
            b'}' | b']' => drop(places.pop()),
            b',' => match places.last_mut() {
                Some(NumberPath::Member { is_next, .. }) => *is_next = true,
                Some(NumberPath::Item(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let end = end_of_text(bytes, at + 1);
                if let Some(NumberPath::Member { name, is_next: is_next @ true }) = places.last_mut() {
                    *name = json.get(at + 1..end).unwrap_or_default();
                    *is_next = false;
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                if !survives(&json[at..at + length]) {
                    return Some(path(&places));
                }
                at += length - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

enum NumberPath<'j> {
    /// Member that is being read; `is_next` is set when the next text is a member name.
    Member {
        name: &'j str,
        is_next: bool,
    },
    Item(usize),
}

fn path(places: &[NumberPath<'_>]) -> String {
    let segment = |place: &NumberPath<'_>| match place {
        NumberPath::Member { name, .. } => name.chars().take(100).collect(),
        NumberPath::Item(index) => index.to_string(),
    };
    places.iter().map(segment).collect::<Vec<String>>().join(".")
}

/// Position of the quote that ends a text.
fn end_of_text(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

fn survives(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(value) = serde_json::from_str::<f64>(number) else { return false };
    let written = serde_json::json!(value).to_string();
    decimal(number) == decimal(&written) && serde_json::from_str::<f64>(&written).is_ok_and(|again| again == value)
}

/// Significant digits and the exponent of the last one. All zeros are equal.
fn decimal(number: &str) -> Option<(String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((String::new(), 0));
    }
    let zeroes = digits.len() - digits.trim_end_matches('0').len();
    let sign = if number.starts_with('-') { "-" } else { "" };
    Some((format!("{sign}{significant}"), exponent.checked_add(zeroes as i64)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_round_trip_exactly_are_accepted() {
        for number in [
            "0",
            "-0",
            "1",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "0.1",
            "1.50",
            "1e3",
            "1E+2",
            "-2.5e-3",
            "100.0",
            "0.0",
            "0e5",
            "1e22",
        ] {
            assert_eq!(inexact(&format!("[{number}]")), None, "{number}");
        }
    }

    #[test]
    fn inexact_numbers_are_named_by_their_path() {
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "0.1000000000000000055511151231257827",
            "3.14159265358979323846264338327950288",
            "9007199254740993.0",
            "1e-400",
        ] {
            assert_eq!(inexact(&format!("[{number}]")).as_deref(), Some("0"), "{number}");
        }
        let big = "99999999999999999999";
        let path = |json: &str| inexact(&json.replace('#', big));
        assert_eq!(path(r##"{"title":"#","custom":{"a":[1,{"b\"c":#}]}}"##).as_deref(), Some(r#"custom.a.1.b\"c"#));
        assert_eq!(path(r##"{"a":{"b":1},"c":#}"##).as_deref(), Some("c"));
        assert_eq!(path(r##"["lead:update",{"patch":{"custom":{"x":#}}}]"##).as_deref(), Some("1.patch.custom.x"));
        assert_eq!(path(r##"{"#":"#\\","x\\":"\"#"}"##), None, "digits in texts are no numbers");
    }
}

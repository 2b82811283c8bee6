//! Text folding for search and sorting: texts that look alike compare equal, whatever code points they consist of.
//!
//! Search and sort keys use [`fold`], passwords use [`opaque`]. Text with no visible character counts as empty.

use unicode_normalization::{UnicodeNormalization, char::canonical_combining_class};

/// Version of the folding. Increase it when [`fold`] or [`digits`] changes its result: stored keys are then recomputed.
pub const FOLDING: i64 = 2;

/// Minimum number of digits for a search by phone number.
const MIN_DIGITS: usize = 3;

/// Removes case, accents and differences of form: `Łódź`, `LODZ` and `lo\u{301}dz` become equal.
pub fn fold(text: &str) -> String {
    // Lower, upper, lower: this leaves one letter of each case family, and U+1E9E becomes `ss` as well.
    let cased = text.nfkd().flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let mut plain = String::with_capacity(text.len());
    let mut is_behind_space = true;
    // NFKD again, because letters that changed case may decompose.
    for char in cased.nfkd() {
        if char.is_whitespace() {
            if !is_behind_space {
                plain.push(' ');
            }
            is_behind_space = true;
        } else if !is_accent(canonical_combining_class(char)) && !is_ignorable(char) {
            match without_stroke(char) {
                Some(letters) => plain.push_str(letters),
                None => plain.push(char),
            }
            is_behind_space = false;
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// Classifies by combining class. Marks of classes 6 to 9 form distinct letters in Indic scripts and in kana.
fn is_accent(class: u8) -> bool {
    class == 1 || class >= 10
}

/// Replacements for letters that Unicode does not decompose, as people type them without such a keyboard.
fn without_stroke(char: char) -> Option<&'static str> {
    Some(match char {
        'æ' => "ae",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'ı' => "i",
        'ł' => "l",
        'ø' => "o",
        'œ' => "oe",
        'þ' => "th",
        'ŧ' => "t",
        _ => return None,
    })
}

/// Zeros of the scripts that people write phone numbers in; the other nine digits follow each (Unicode, Nd).
const ZEROS: [char; 21] = [
    '0', '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}', '\u{c66}',
    '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{17e0}', '\u{1810}', '\u{1946}',
];

fn digit(char: char) -> Option<char> {
    let value =
        ZEROS.iter().find_map(|zero| u32::from(char).checked_sub(u32::from(*zero)).filter(|value| *value < 10))?;
    char::from_digit(value, 10)
}

/// Digits of a phone number.
pub fn digits(text: &str) -> String {
    text.nfkd().filter_map(digit).collect()
}

/// Digits to search for when the text is a phone number or a part of one.
pub fn phone_digits(text: &str) -> Option<String> {
    let is_phone = |char: char| digit(char).is_some() || " +-()./\u{2010}\u{2012}\u{2013}\u{2212}".contains(char);
    let digits = digits(text);
    (digits.len() >= MIN_DIGITS && fold(text).chars().all(is_phone)).then_some(digits)
}

/// True when no character of the text is visible.
pub fn is_blank(text: &str) -> bool {
    // The last two are a braille cell without a dot, and annotation marks.
    let is_unseen = |char: char| matches!(char, '\u{2800}' | '\u{fff9}'..='\u{fffb}');
    text.chars().all(|char| char.is_whitespace() || char.is_control() || is_ignorable(char) || is_unseen(char))
}

/// Code points that are invisible where they are not supported (Default_Ignorable_Code_Point). Unicode reserves these
/// blocks for such code points, so the list stays valid.
fn is_ignorable(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Normalises a password for comparison (OpaqueString, RFC 8265): composed (NFC), every space a plain one.
///
/// Code points that are younger than the profile are accepted unchanged.
pub fn opaque(password: &str) -> String {
    // Space separators: white space except controls and the line and paragraph separators.
    let is_space = |char: char| char.is_whitespace() && !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}');
    password.chars().map(|char| if is_space(char) { ' ' } else { char }).nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_compatibility_forms_are_folded() {
        for (text, folded) in [
            ("Müller", "muller"),
            ("MU\u{308}LLER", "muller"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("Łódź", "lodz"),
            ("İstanbul", "istanbul"),
            ("ısı", "isi"),
            ("ΟΔΟΣ", "οδοσ"),
            ("οδός", "οδοσ"),
            ("ЁЛКА", "елка"),
            ("ﬁle", "file"),
            ("Ｆｕｌｌ", "full"),
            ("Æsir Ørsted", "aesir orsted"),
            ("  a \u{a0}\u{2003} b\n", "a b"),
            ("so\u{ad}ft\u{200b}", "soft"),
            ("Việt Nam", "viet nam"),
            ("שָׁלוֹם", "שלום"),
        ] {
            assert_eq!(fold(text), folded, "{text}");
            assert_eq!(fold(&fold(text)), folded, "folded twice: {text}");
        }
    }

    #[test]
    fn distinct_letters_stay_distinct() {
        assert_ne!(fold("か"), fold("が"));
        assert_ne!(fold("की"), fold("का"));
        assert_eq!(fold("ｶﾞ"), fold("ガ"));
    }

    #[test]
    fn a_phone_number_is_found_by_its_digits() {
        assert_eq!(digits("+1 (555) 0199"), "15550199");
        assert_eq!(digits("０１９９"), "0199");
        assert_eq!(phone_digits("555 0199").as_deref(), Some("5550199"));
        assert_eq!(phone_digits("+1 (555)").as_deref(), Some("1555"));
        for other in ["12", "555 roofs", "+", "", "a5550199"] {
            assert_eq!(phone_digits(other), None, "{other}");
        }
        assert_eq!(digits("\u{660}\u{661}\u{669} \u{6f5} \u{967} \u{e53} \u{ff17}"), "0195137");
        assert_eq!(phone_digits("\u{665}\u{665}\u{665}\u{660}").as_deref(), Some("5550"));
    }

    #[test]
    fn invisible_text_is_blank() {
        for blank in
            ["", " ", "\u{200b}", "\u{2060}\u{feff}", "\u{3164}", "\u{2800}", "\u{ad}\u{e0001}", "\u{202e}\u{7}"]
        {
            assert!(is_blank(blank), "{blank:?}");
        }
        for seen in ["a", "\u{200b}a", "👩\u{200d}👧", "\u{fe0f}☎", "।"] {
            assert!(!is_blank(seen), "{seen:?}");
        }
    }

    #[test]
    fn a_password_is_normalized_to_nfc_and_keeps_spaces_and_case() {
        assert_eq!(opaque("Cafe\u{301} au\u{a0}lait"), "Café au lait");
        assert_eq!(opaque("\u{212b}ngstrom"), "\u{c5}ngstrom");
        assert_eq!(opaque("a  B "), "a  B ", "spaces and case count");
        assert_ne!(opaque("ﬁ"), "fi", "compatibility forms are others");
    }
}

//! Phone numbers in one format: E.164, followed by the extension if there is one.

use std::borrow::Cow;

use leadwire_plugin_sdk::Deserialize;
use phonenumber::{
    country,
    metadata::{DATABASE, Metadata},
};

/// A country by its ISO 3166-1 code.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Country(country::Id);

impl TryFrom<String> for Country {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        code.parse().map(Self).map_err(|_| format!("unknown country `{code}`: expected a code such as `DE` or `US`"))
    }
}

impl Country {
    fn metadata(self) -> Option<&'static Metadata> {
        DATABASE.by_id(self.0.as_ref())
    }
}

/// Parser of phone numbers in the notations that people use.
pub(crate) struct Phones {
    /// Country whose numbers may be written without a country code.
    country: Option<Country>,
}

impl Phones {
    /// Loads the metadata of all countries and the rules of this one in advance, because a call has no time for it.
    pub(crate) fn new(country: Option<Country>) -> Self {
        let phones = Self { country };
        let descriptors = country.and_then(Country::metadata).map(Metadata::descriptors);
        let example = descriptors.and_then(|of| of.fixed_line().or(of.mobile())?.example());
        for number in example.into_iter().chain(["+44 20 7946 0018 ext. 1"]) {
            phones.tidy(number);
        }
        phones
    }

    /// Returns `+442079460018` or `+442079460018 ext. 7`; `None` if its country has no such numbers.
    pub(crate) fn tidy(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let text = text.strip_prefix("tel:").unwrap_or(text);
        let international = self.international(text);
        let written = digits(international.as_deref().unwrap_or(text));
        // A number with a country code is parsed by the rules of that country: other rules might take its first
        // digits for a trunk prefix.
        let (number, written) = match &international {
            Some(text) => {
                let code = country_code(&written)?;
                let main = DATABASE.region(&code)?.first()?.parse().ok();
                (phonenumber::parse(main, text).ok()?, written.strip_prefix(&code.to_string())?)
            }
            None => (phonenumber::parse(Some(self.country?.0), text).ok()?, written.as_str()),
        };
        let (code, extension) = (number.code().value(), number.extension().map(ToString::to_string));
        // Digits that are already a valid number have no trunk prefix, whatever they begin with.
        let written = extension.as_ref().map_or(Some(written), |extension| written.strip_suffix(extension.as_str()));
        let read = number.national().to_string();
        let candidates = || written.into_iter().chain([read.as_str()]);
        // Rules that list short numbers first may match only the beginning of a long one. Such a match is accepted
        // unless another reading matches the whole number.
        let [whole, beginning] =
            [true, false].map(|whole| candidates().find(|digits| is_plausible(code, digits, whole)));
        let national = whole.or(beginning)?;
        Some(match extension {
            Some(extension) => format!("+{code}{national} ext. {extension}"),
            None => format!("+{code}{national}"),
        })
    }

    /// Returns the number with a leading plus if it has a country code: after a plus, or after the international prefix.
    fn international<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if text.starts_with(['+', '＋']) {
            return Some(text.into());
        }
        let prefix = self.country?.metadata()?.international_prefix()?;
        let digits = digits(text);
        let end = prefix.find(&digits).filter(|found| found.start() == 0)?.end();
        // The rest after the prefix, unchanged.
        let (last, _) = text.char_indices().filter(|(_, c)| c.is_ascii_digit()).nth(end.checked_sub(1)?)?;
        country_code(&digits[end..])?;
        Some(format!("+{}", &text[last + 1..]).into())
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Country code at the start of a number; no code is a prefix of another.
fn country_code(digits: &str) -> Option<u16> {
    let codes = (1..=3).filter_map(|length| digits.get(..length)?.parse::<u16>().ok());
    codes.take_while(|&code| code > 0).find(|code| DATABASE.by_code(code).is_some())
}

/// Returns true if a country with that code has such numbers. Does not check whether the area or network is in use: that
/// changes every month, and its rules are too large to load within a call.
fn is_plausible(code: u16, national: &str, whole: bool) -> bool {
    let length = u16::try_from(national.len()).unwrap_or(u16::MAX);
    let fits = |metadata: &&Metadata| {
        let of = metadata.descriptors();
        let kinds = [
            of.fixed_line(),
            of.mobile(),
            of.toll_free(),
            of.shared_cost(),
            of.premium_rate(),
            of.personal_number(),
            of.voip(),
            of.pager(),
            of.uan(),
            of.voicemail(),
        ];
        kinds.into_iter().flatten().any(|kind| kind.possible_length().contains(&length))
    };
    let matches = |metadata: &Metadata| {
        let found = metadata.descriptors().general().national_number().find(national);
        found.is_some_and(|found| found.start() == 0 && (found.end() == national.len() || !whole))
    };
    DATABASE.by_code(&code).into_iter().flatten().any(|metadata| fits(&metadata) && matches(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phones(country: &str) -> Phones {
        Phones::new(Some(Country::try_from(country.to_owned()).expect("a country")))
    }

    #[test]
    fn every_notation_of_a_number_gets_one_format() {
        let (us, de, india, none) = (phones("US"), phones("DE"), phones("IN"), Phones::new(None));
        for (phones, text, tidy) in [
            (&us, "(202) 555-0143", "+12025550143"),
            (&us, "1-202-555-0143", "+12025550143"),
            (&us, " 202.555.0143 ", "+12025550143"),
            (&us, "+1 202 555 0143", "+12025550143"),
            (&us, "+49 1512 3456789", "+4915123456789"),
            (&us, "011 49 1512 3456789", "+4915123456789"),
            (&us, "202 555 0143 ext. 12", "+12025550143 ext. 12"),
            (&us, "+12025550143 ext. 12", "+12025550143 ext. 12"),
            (&us, "tel:+1-202-555-0143;ext=12", "+12025550143 ext. 12"),
            (&de, "030 901820", "+4930901820"),
            (&de, "0049 30 901820", "+4930901820"),
            (&de, "(030) 90 18-20", "+4930901820"),
            (&de, "00 1 202 555 0143", "+12025550143"),
            (&de, "+44 (0)20 7946 0018", "+442079460018"),
            (&none, "+39 06 6982", "+39066982"),
            (&none, "+375 800 123 4567", "+3758001234567"),
            (&none, "+800 1234 5678", "+80012345678"),
            (&india, "91234 56789", "+919123456789"),
            (&india, "091234 56789", "+919123456789"),
            (&india, "91 91234 56789", "+919123456789"),
            (&none, "＋44 20 7946 0018", "+442079460018"),
        ] {
            assert_eq!(phones.tidy(text).as_deref(), Some(tidy), "{text}");
        }
    }

    #[test]
    fn invalid_numbers_are_rejected() {
        let us = phones("US");
        for text in
            ["", " ", "none", "call Bob", "555 0143", "+1 555 0100", "123", "+999 123456", "202 555 01433", "+0 1"]
        {
            assert_eq!(us.tidy(text), None, "{text}");
        }
        assert_eq!(Phones::new(None).tidy("(202) 555-0143"), None);
    }

    #[test]
    fn numbers_of_every_country_are_parsed_and_formatting_is_idempotent() {
        // One country without a trunk prefix, and one where many numbers begin with it.
        let (us, by) = (phones("US"), phones("BY"));
        let mut read = 0;
        for metadata in DATABASE.iter() {
            let of = metadata.descriptors();
            let kinds = [
                of.fixed_line(),
                of.mobile(),
                of.toll_free(),
                of.shared_cost(),
                of.premium_rate(),
                of.voip(),
                of.uan(),
            ];
            for example in kinds.into_iter().flatten().filter_map(|of| of.example()) {
                let e164 = format!("+{}{example}", metadata.country_code());
                assert_eq!(us.tidy(&e164).as_deref(), Some(e164.as_str()), "{}", metadata.id());
                assert_eq!(by.tidy(&e164).as_deref(), Some(e164.as_str()), "{}", metadata.id());
                read += 1;
            }
        }
        assert!(read > 800, "{read}");
    }

    #[test]
    fn no_text_panics_and_tidying_is_idempotent() {
        let countries = ["US", "DE", "AR", "BR", "MX", "IT", "CI"].map(phones);
        let letters: Vec<char> =
            "+0123456789012345678901234567890 ()-.;=/x#*~ext＋０٣é\u{200b}\0tel:phone-context".chars().collect();
        // A small generator, so that the inputs are reproducible.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        for turn in 0..20_000 {
            let starts = ["", "+", "tel:", "00", "011", "+1", "+54", "+55"];
            let mut text = starts[below(starts.len())].to_owned();
            text.extend((0..below(24)).map(|_| letters[below(letters.len())]));
            let phones = &countries[turn % countries.len()];
            if let Some(tidy) = phones.tidy(&text) {
                assert_eq!(phones.tidy(&tidy).as_deref(), Some(tidy.as_str()), "{text:?}");
                assert!(tidy.starts_with('+') && tidy.is_ascii(), "{text:?}: {tidy:?}");
            }
        }
    }
}

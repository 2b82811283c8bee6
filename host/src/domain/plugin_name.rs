//! Names of plugins: lower-case letters, digits and hyphens, as in the name of the file.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Name of a plugin. It is checked where it comes from outside, and not again where the server reads what it stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PluginName(Arc<str>);

/// Refusal of a text that cannot name a plugin; it has the beginning of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plugin name: expected a lower-case letter, then letters, digits and hyphens")]
pub struct InvalidPluginName(String);

impl PluginName {
    /// Name that the server itself has stored.
    pub(crate) fn stored(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = InvalidPluginName;

    fn from_str(text: &str) -> Result<Self, InvalidPluginName> {
        let is_valid = (1..=64).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidPluginName(text.chars().take(64).collect())) }
    }
}

impl Deref for PluginName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for PluginName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl PartialEq<String> for PluginName {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<str> for PluginName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for PluginName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_and_hyphens_after_a_letter() {
        let longest = "a".repeat(64);
        for name in ["a", "lead-score", "crm2", longest.as_str()] {
            assert_eq!(name.parse::<PluginName>().expect("a name"), name);
        }
        let long = "a".repeat(65);
        for text in ["", "1st", "-a", "Lead", "a_b", "a.b", "a/b", "\u{e9}", long.as_str()] {
            let refusal = text.parse::<PluginName>().expect_err(text).to_string();
            assert!(refusal.ends_with("expected a lower-case letter, then letters, digits and hyphens"), "{refusal}");
        }
    }
}

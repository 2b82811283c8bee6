//! Members of the objects that clients send. One [`Field`] says what is accepted; [`Input`](super::input::Input) reads
//! by it and the API documentation shows it, so that the two cannot differ.

/// Largest integer that is exact in JavaScript.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Longest e-mail address (RFC 5321, with its erratum 1690).
pub const MAX_EMAIL_CHARS: usize = 254;

/// Limits of an object with members of the client's choice: bytes of its JSON, and depth.
pub const MAX_JSON_BYTES: usize = 32 * 1024;
pub const MAX_JSON_DEPTH: usize = 8;

/// Member of an object, or parameter of a query.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: FieldKind,
    pub need: Need,
    /// One or two sentences for the documentation.
    pub about: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Text of `min` to `max` characters after trimming. With a `min` of 0, an empty text is the same as null.
    Text {
        min: usize,
        max: usize,
    },
    /// Text that is kept unchanged, spaces included.
    Secret {
        min: usize,
        max: usize,
    },
    Email,
    /// ISO 4217 code.
    Currency,
    /// True or false.
    Flag,
    Integer {
        min: i64,
        max: i64,
    },
    /// RFC 3339 time between 1970 and 9999.
    Time,
    /// Time, or a date, which is the moment at which it begins in UTC.
    TimeOrDate,
    /// One of a closed set of names.
    OneOf(&'static [&'static str]),
    /// Any number of names of a closed set: a repeated parameter, or a list with commas.
    ManyOf(&'static [&'static str]),
    /// Name of a closed set to sort by, with `-` in front for descending order.
    SortBy(&'static [&'static str]),
    /// UUID.
    Id,
    /// UUID, or `none`.
    IdOrNone,
    /// Object with members of the client's choice.
    Object,
    /// Position in the log, as a number or as the text of one.
    Position,
    /// Text that the server gave out, and that means nothing to clients.
    Opaque,
}

/// Consequence of a member that is missing or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be there when an item is created, and cannot be removed.
    Required,
    /// It gets this value, written as JSON, when an item is created, and cannot be removed.
    Default(&'static str),
    /// It must be there, but may be null.
    Explicit,
    Optional,
}

impl Field {
    /// Describes an optional member.
    pub const fn new(name: &'static str, kind: FieldKind, about: &'static str) -> Self {
        Self { name, kind, need: Need::Optional, about }
    }

    pub const fn text(name: &'static str, max: usize, about: &'static str) -> Self {
        Self::new(name, FieldKind::Text { min: 0, max }, about)
    }

    #[must_use]
    pub const fn required(self) -> Self {
        Self { need: Need::Required, ..self }
    }

    #[must_use]
    pub const fn default(self, json: &'static str) -> Self {
        Self { need: Need::Default(json), ..self }
    }

    #[must_use]
    pub const fn explicit(self) -> Self {
        Self { need: Need::Explicit, ..self }
    }

    /// True if null cannot take its place in an item that exists.
    pub fn is_never_null(&self) -> bool {
        matches!(self.need, Need::Required | Need::Default(_))
    }
}

//! Answers of a hand-written plugin: verdicts, edits, rulings, and effects with their state.

#[derive(Clone)]
pub struct Verdict {
    pub role: &'static str,
    pub audience: Audience,
    pub edits: Vec<Edit>,
}

#[derive(Clone)]
pub enum Audience {
    Everyone,
    Nobody,
    Only(Vec<String>),
}

#[derive(Clone)]
pub enum Ruling {
    Accept,
    Amend(Vec<Edit>),
    Refuse { code: String, message: String, field: Option<String> },
}

/// Answer of `wants`.
#[derive(Clone, Default)]
pub struct Wants {
    pub events: Vec<String>,
    pub effects: Vec<String>,
    pub webhook_hosts: Vec<String>,
}

impl Wants {
    pub fn new<const N: usize, const M: usize>(events: [&str; N], effects: [&str; M]) -> Self {
        Self { events: owned(events), effects: owned(effects), webhook_hosts: Vec::new() }
    }

    pub fn webhooks_to<const N: usize>(self, hosts: [&str; N]) -> Self {
        Self { webhook_hosts: owned(hosts), ..self }
    }
}

/// Answer of `after`.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Names and inputs.
    pub effects: Vec<(String, String)>,
    pub state: Option<String>,
    /// Effects for a reminder, instead of `effects`.
    pub reminded: Vec<(String, String)>,
    /// True to use the first field as the input of the first effect, and the occasion's id as the state.
    pub echo: bool,
}

/// Placeholder in an effect's input for the first field that the host passed, which must be a quoted id.
pub const FIRST_ID: &str = "<the first field, an id, in its quotes>";
/// Length of a quoted id.
pub const ID_BYTES: usize = 38;

pub fn outcome<const N: usize>(effects: [(&str, &str); N]) -> Outcome {
    let effects = effects.into_iter().map(|(name, input)| (name.into(), input.into())).collect();
    Outcome { effects, ..Outcome::default() }
}

#[derive(Clone)]
pub enum Edit {
    Remove(String),
    Mask(String, String),
    Set(String, String),
    /// Sets a pointer to the first field that the host passed, with unchanged JSON text.
    SetFirstField(String),
    /// Sets a pointer to the whole payload.
    SetPayload(String),
    /// Masks a pointer with the whole question of `filter-lines`.
    MaskQuestion(String),
    /// Sets a pointer to the whole payload in `filter-lines`.
    SetPayloadByLine(String),
}

pub fn everyone(role: &'static str, edits: impl IntoIterator<Item = Edit>) -> Verdict {
    Verdict { role, audience: Audience::Everyone, edits: edits.into_iter().collect() }
}

pub fn remove(pointer: &str) -> Edit {
    Edit::Remove(pointer.into())
}

pub fn set(pointer: &str, json: &str) -> Edit {
    Edit::Set(pointer.into(), json.into())
}

pub fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

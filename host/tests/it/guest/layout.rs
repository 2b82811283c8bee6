//! Layout of a hand-written plugin's answers in its memory, in the canonical ABI.

use std::fmt::Write as _;

use super::{
    Guest,
    answer::{Audience, Edit, FIRST_ID, ID_BYTES, Outcome, Ruling, Verdict, Wants},
};

/// The first page of a guest's memory, which contains its answers.
pub struct Data {
    pub bytes: Vec<u8>,
}

impl Default for Data {
    /// Address 0 is unused, as in C; "info" and "n" are arguments for calls of the host.
    fn default() -> Self {
        let mut bytes = vec![0; 64];
        bytes[16..20].copy_from_slice(b"info");
        bytes[24] = b'n';
        Self { bytes }
    }
}

impl Data {
    pub fn space(&mut self, size: usize) -> usize {
        let at = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(at + size, 0);
        at
    }

    fn put(&mut self, at: usize, number: usize) {
        let number = u32::try_from(number).expect("a small memory");
        self.bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }

    fn string(&mut self, at: usize, text: &str) {
        let start = self.space(text.len());
        self.bytes[start..start + text.len()].copy_from_slice(text.as_bytes());
        // U+FFFF, a noncharacter, is the placeholder for three bytes that are not UTF-8.
        for (at, _) in text.match_indices('\u{ffff}') {
            self.bytes[start + at..start + at + 3].fill(0xff);
        }
        self.put(at, start);
        self.put(at + 4, text.len());
    }

    pub fn strings(&mut self, at: usize, texts: &[String]) {
        let start = self.space(8 * texts.len());
        for (index, text) in texts.iter().enumerate() {
            self.string(start + 8 * index, text);
        }
        self.put(at, start);
        self.put(at + 4, texts.len());
    }

    pub fn manifest(&mut self, guest: &Guest) -> usize {
        let at = self.space(44);
        self.string(at, &guest.name);
        self.string(at + 8, &guest.version);
        self.strings(at + 16, &guest.events);
        self.strings(at + 24, &guest.roles);
        self.strings(at + 32, &guest.fields);
        self.bytes[at + 40] = guest.whole_payload.into();
        at
    }

    pub fn result(&mut self, case: u8, text: &str) -> usize {
        let at = self.space(12);
        self.bytes[at] = case;
        self.string(at + 4, text);
        at
    }

    pub fn list_result<T>(
        &mut self,
        answer: &Result<Vec<T>, String>,
        size: usize,
        mut item: impl FnMut(&mut Self, usize, &T) -> String,
    ) -> (usize, String) {
        let items = match answer {
            Ok(items) => items,
            Err(reason) => return (self.result(1, reason), String::new()),
        };
        let at = self.result(0, "");
        let start = self.space(size * items.len());
        self.put(at + 4, start);
        self.put(at + 8, items.len());
        let copies = items.iter().enumerate().map(|(index, value)| item(self, start + size * index, value)).collect();
        (at, copies)
    }

    /// Lays out an edit; returns the code that fills in values known only at call time.
    pub fn edit(&mut self, at: usize, edit: &Edit) -> String {
        let (case, pointer, text) = match edit {
            Edit::Remove(pointer) => (0, pointer, None),
            Edit::Mask(pointer, text) => (1, pointer, Some(text)),
            Edit::Set(pointer, json) => (2, pointer, Some(json)),
            Edit::MaskQuestion(pointer) => (1, pointer, None),
            Edit::SetFirstField(pointer) | Edit::SetPayload(pointer) | Edit::SetPayloadByLine(pointer) => {
                (2, pointer, None)
            }
        };
        self.bytes[at] = case;
        self.string(at + 4, pointer);
        if let Some(text) = text {
            self.string(at + 12, text);
        }
        let copy = |to: usize, from: &str| format!("(i32.store (i32.const {to}) {from})");
        match edit {
            Edit::SetFirstField(_) => {
                copy(at + 12, "(i32.load offset=8 (local.get 2))")
                    + &copy(at + 16, "(i32.load offset=12 (local.get 2))")
            }
            Edit::SetPayload(_) => copy(at + 12, "(local.get 5)") + &copy(at + 16, "(local.get 6)"),
            Edit::MaskQuestion(_) => copy(at + 12, "(local.get 0)") + &copy(at + 16, "(local.get 1)"),
            Edit::SetPayloadByLine(_) => copy(at + 12, "(local.get 3)") + &copy(at + 16, "(local.get 4)"),
            _ => String::new(),
        }
    }

    pub fn verdict(&mut self, at: usize, verdict: &Verdict) -> String {
        self.string(at, verdict.role);
        self.decided(at + 8, verdict)
    }

    /// A verdict without its role.
    pub fn decided(&mut self, at: usize, verdict: &Verdict) -> String {
        match &verdict.audience {
            Audience::Everyone => {}
            Audience::Nobody => {
                self.bytes[at] = 1;
                self.string(at + 4, "not theirs");
            }
            Audience::Only(users) => {
                self.bytes[at] = 2;
                self.strings(at + 4, users);
            }
        }
        let start = self.space(20 * verdict.edits.len());
        self.put(at + 12, start);
        self.put(at + 16, verdict.edits.len());
        verdict.edits.iter().enumerate().map(|(index, edit)| self.edit(start + 20 * index, edit)).collect()
    }

    pub fn hides(&mut self, hides: &[(String, Vec<String>)]) -> usize {
        let at = self.space(8);
        let start = self.space(16 * hides.len());
        self.put(at, start);
        self.put(at + 4, hides.len());
        for (index, (role, pointers)) in hides.iter().enumerate() {
            self.string(start + 16 * index, role);
            self.strings(start + 16 * index + 8, pointers);
        }
        at
    }

    pub fn ruling(&mut self, answer: &Result<Ruling, String>) -> (usize, String) {
        let at = self.space(36);
        let ruling = match answer {
            Ok(ruling) => ruling,
            Err(reason) => {
                self.bytes[at] = 1;
                self.string(at + 4, reason);
                return (at, String::new());
            }
        };
        match ruling {
            Ruling::Accept => {}
            Ruling::Amend(edits) => {
                self.bytes[at + 4] = 1;
                let start = self.space(20 * edits.len());
                self.put(at + 8, start);
                self.put(at + 12, edits.len());
                let copies = edits.iter().enumerate().map(|(index, edit)| {
                    // The list of fields follows three texts here, and one text in questions about an event.
                    self.edit(start + 20 * index, edit).replace("(local.get 2)", "(local.get 6)")
                });
                return (at, copies.collect());
            }
            Ruling::Refuse { code, message, field } => {
                self.bytes[at + 4] = 2;
                self.string(at + 8, code);
                self.string(at + 16, message);
                if let Some(field) = field {
                    self.bytes[at + 24] = 1;
                    self.string(at + 28, field);
                }
            }
        }
        (at, String::new())
    }

    pub fn wants(&mut self, wants: &Wants) -> usize {
        let at = self.space(24);
        self.strings(at, &wants.events);
        self.strings(at + 8, &wants.effects);
        self.strings(at + 16, &wants.webhook_hosts);
        at
    }

    pub fn outcome(&mut self, answer: &Result<Outcome, String>) -> (usize, String) {
        let at = self.space(24);
        let outcome = match answer {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.bytes[at] = 1;
                self.string(at + 4, reason);
                return (at, String::new());
            }
        };
        let (start, mut copies) = self.effects(at, &outcome.effects);
        if !outcome.reminded.is_empty() {
            let other = self.space(24);
            let (_, inputs) = self.effects(other, &outcome.reminded);
            // An event name of eight letters: `reminder`.
            let answer = format!("(then {inputs} (return (i32.const {other})))");
            copies = format!("(if (i32.eq (local.get 7) (i32.const 8)) {answer}) {copies}");
        }
        if let Some(state) = &outcome.state {
            self.bytes[at + 12] = 1;
            self.string(at + 16, state);
        }
        if !outcome.echo {
            return (at, copies);
        }
        self.bytes[at + 12] = 1;
        let copy = |to: usize, from: &str| format!("(i32.store (i32.const {to}) {from})");
        let state = copy(at + 16, "(local.get 0)") + &copy(at + 20, "(local.get 1)");
        let input = copy(start + 8, "(i32.load offset=8 (local.get 8))")
            + &copy(start + 12, "(i32.load offset=12 (local.get 8))");
        (at, state + &input)
    }

    /// Lays out a list of effects; returns its address, and the code that fills in ids.
    fn effects(&mut self, at: usize, effects: &[(String, String)]) -> (usize, String) {
        let start = self.space(16 * effects.len());
        self.put(at + 4, start);
        self.put(at + 8, effects.len());
        let mut copies = String::new();
        for (index, (name, input)) in effects.iter().enumerate() {
            self.string(start + 16 * index, name);
            let blank = input.replace(FIRST_ID, &" ".repeat(ID_BYTES));
            let text = self.bytes.len().next_multiple_of(4);
            self.string(start + 16 * index + 8, &blank);
            let mut behind = 0;
            for (found, _) in input.match_indices(FIRST_ID) {
                let to = text + found - behind;
                behind += FIRST_ID.len() - ID_BYTES;
                write!(
                    copies,
                    "(memory.copy (i32.const {to}) (i32.load offset=8 (local.get 8)) (i32.const {ID_BYTES}))"
                )
                .expect("a string takes everything");
            }
        }
        (start, copies)
    }

    pub fn decision(&mut self, denial: Option<&str>) -> usize {
        let at = self.space(16);
        if let Some(reason) = denial {
            self.bytes[at + 4] = 1;
            self.string(at + 8, reason);
        }
        at
    }
}

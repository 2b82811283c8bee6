//! Hand-written plugins, for cases that no toolchain produces: answers are laid out byte by byte in the canonical ABI,
//! and the code of a hook is a few lines of WebAssembly text.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Builder of a plugin. It has the hooks for which an answer was set.
#[derive(Clone)]
pub struct Guest {
    name: String,
    version: String,
    events: Vec<String>,
    roles: Vec<String>,
    fields: Vec<String>,
    whole_payload: bool,
    hides: Vec<(String, Vec<String>)>,
    describe: String,
    init: (String, Option<String>),
    filter: Option<(String, Result<Vec<Verdict>, String>)>,
    /// The same hook in the form of `filter-lines`.
    filter_lines: Option<(String, Result<Vec<Verdict>, String>)>,
    enrich: Option<(String, Result<Vec<Edit>, String>)>,
    authorize: Option<(String, Option<String>)>,
    before: Option<(Vec<String>, String, Result<Ruling, String>)>,
    after: Option<(Wants, String, Result<Outcome, String>)>,
    realloc: String,
    wasi: bool,
}

/// The part of WASI that a language's standard library uses for random numbers and output.
const WASI: &str = "
    package wasi:io@0.2.3 {
        interface error { resource error; }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
        }
    }
    package wasi:cli@0.2.3 {
        interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
        interface environment { get-environment: func() -> list<tuple<string, string>>; }
        interface terminal-output { resource terminal-output; }
        interface terminal-stdout {
            use terminal-output.{terminal-output};
            get-terminal-stdout: func() -> option<terminal-output>;
        }
        interface exit { exit: func(status: result); }
    }
    package wasi:filesystem@0.2.3 {
        interface types { resource descriptor { sync: func() -> u32; } }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:random@0.2.3 { interface random { get-random-u64: func() -> u64; } }
";
const WASI_IMPORTS: &str = "
    (import \"wasi:random/random@0.2.3\" \"get-random-u64\" (func $random (result i64)))
    (import \"wasi:cli/stdout@0.2.3\" \"get-stdout\" (func $stdout (result i32)))
    (import \"wasi:cli/environment@0.2.3\" \"get-environment\" (func $environment (param i32)))
    (import \"wasi:cli/terminal-stdout@0.2.3\" \"get-terminal-stdout\" (func $terminal (param i32)))
    (import \"wasi:filesystem/preopens@0.2.3\" \"get-directories\" (func $directories (param i32)))
    (import \"wasi:filesystem/types@0.2.3\" \"[method]descriptor.sync\" (func $sync (param i32) (result i32)))
    (import \"wasi:cli/exit@0.2.3\" \"exit\" (func $exit (param i32)))
    (import \"wasi:io/streams@0.2.3\" \"[method]output-stream.blocking-write-and-flush\"
      (func $write (param i32 i32 i32 i32)))
    (import \"wasi:io/streams@0.2.3\" \"[resource-drop]output-stream\" (func $close (param i32)))";

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
const ID_BYTES: usize = 38;

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

fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl Guest {
    /// A plugin that wants every event, for every role, and has no hook yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            version: "1.0.0".into(),
            events: owned(["*"]),
            roles: Vec::new(),
            fields: Vec::new(),
            whole_payload: false,
            hides: Vec::new(),
            describe: String::new(),
            init: (String::new(), None),
            filter: None,
            filter_lines: None,
            enrich: None,
            authorize: None,
            before: None,
            after: None,
            realloc: String::new(),
            wasi: false,
        }
    }

    /// A plugin that hides e-mail addresses from viewers.
    pub fn redactor(name: &str) -> Self {
        Self::new(name)
            .roles(["VIEWER"])
            .hides("VIEWER", ["/lead/email"])
            .filter([everyone("VIEWER", [remove("/lead/email")])])
    }

    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    pub fn events<const N: usize>(mut self, events: [&str; N]) -> Self {
        self.events = owned(events);
        self
    }

    pub fn roles<const N: usize>(mut self, roles: [&str; N]) -> Self {
        self.roles = owned(roles);
        self
    }

    pub fn fields<const N: usize>(mut self, fields: [&str; N]) -> Self {
        self.fields = owned(fields);
        self
    }

    pub fn whole_payload(mut self) -> Self {
        self.whole_payload = true;
        self
    }

    pub fn hides<const N: usize>(mut self, role: &str, pointers: [&str; N]) -> Self {
        self.hides.push((role.into(), owned(pointers)));
        self
    }

    /// Code of `describe` before its answer.
    pub fn describing(mut self, code: &str) -> Self {
        self.describe = code.into();
        self
    }

    /// Code of `init` before its answer.
    pub fn initialising(mut self, code: &str) -> Self {
        self.init.0 = code.into();
        self
    }

    pub fn refusing_config(mut self, reason: &str) -> Self {
        self.init.1 = Some(reason.into());
        self
    }

    pub fn filter(self, verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        self.filtering("", Ok(verdicts.into_iter().collect()))
    }

    /// Code of `filter`, and its answer.
    pub fn filtering(mut self, code: &str, answer: Result<Vec<Verdict>, String>) -> Self {
        self.filter = Some((code.into(), answer));
        self
    }

    /// Verdicts in the order of the roles asked, whatever roles they name.
    pub fn filter_by_line(self, verdicts: impl IntoIterator<Item = Verdict>) -> Self {
        self.filtering_by_line("", Ok(verdicts.into_iter().collect()))
    }

    pub fn filtering_by_line(mut self, code: &str, answer: Result<Vec<Verdict>, String>) -> Self {
        self.filter_lines = Some((code.into(), answer));
        self
    }

    pub fn enrich(self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.enriching("", Ok(edits.into_iter().collect()))
    }

    pub fn enriching(mut self, code: &str, answer: Result<Vec<Edit>, String>) -> Self {
        self.enrich = Some((code.into(), answer));
        self
    }

    /// Denies with that reason, or allows without one.
    pub fn authorize(self, denial: Option<&str>) -> Self {
        self.authorizing("", denial)
    }

    /// Code of `authorize`, and its answer.
    pub fn authorizing(mut self, code: &str, denial: Option<&str>) -> Self {
        self.authorize = Some((code.into(), denial.map(Into::into)));
        self
    }

    /// Code of the guest's allocation function.
    pub fn reallocating(mut self, code: &str) -> Self {
        self.realloc = code.into();
        self
    }

    /// Answer of `before` for these commands.
    pub fn before<const N: usize>(self, commands: [&str; N], ruling: Ruling) -> Self {
        self.ruling(commands, "", Ok(ruling))
    }

    /// Code of `before`, and its answer.
    pub fn ruling<const N: usize>(mut self, commands: [&str; N], code: &str, answer: Result<Ruling, String>) -> Self {
        self.before = Some((owned(commands), code.into(), answer));
        self
    }

    pub fn after(self, wants: Wants, outcome: Outcome) -> Self {
        self.following(wants, "", Ok(outcome))
    }

    /// Code of `after`, and its answer.
    pub fn following(mut self, wants: Wants, code: &str, answer: Result<Outcome, String>) -> Self {
        self.after = Some((wants, code.into(), answer));
        self
    }

    /// Imports some of WASI: `$random`, `$stdout`, `$write`, `$environment`, `$directories`, `$exit` and more.
    pub fn with_wasi(mut self) -> Self {
        self.wasi = true;
        self
    }

    /// Builds the component. `$calls` counts the calls of hooks, in each function's code.
    pub fn build(&self) -> Vec<u8> {
        self.build_against(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/v1"))
    }

    /// Builds the component with the interface in that folder.
    pub fn build_against(&self, interface: impl AsRef<std::path::Path>) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("valid text");
        let mut wit = Resolve::default();
        wit.push_dir(interface).expect("valid WIT");
        let hooks = [
            ("authorizes", self.authorize.is_some()),
            ("befores", self.before.is_some()),
            ("enriches", self.enrich.is_some()),
            ("filters", self.filter.is_some()),
            ("filters-by-line", self.filter_lines.is_some()),
            ("afters", self.after.is_some()),
        ];
        let includes = hooks.into_iter().filter(|(_, has)| *has).map(|(world, _)| world).chain(["base"]);
        let includes: String = includes.map(|world| format!("include leadwire:plugin/{world}@1.0.0;")).collect();
        let mut imports = "";
        if self.wasi {
            wit.push_str("wasi.wit", &format!("package test:wasi; {WASI}")).expect("valid");
            imports = "import wasi:random/random@0.2.3; import wasi:cli/stdout@0.2.3; import wasi:io/streams@0.2.3;
                       import wasi:cli/environment@0.2.3; import wasi:cli/exit@0.2.3; import wasi:cli/terminal-stdout@0.2.3;
                       import wasi:filesystem/preopens@0.2.3; import wasi:filesystem/types@0.2.3;";
        }
        let world = format!("package test:guest; world guest {{ {includes} {imports} }}");
        let own = wit.push_str("guest.wit", &world).expect("valid");
        let world = wit.select_world(&[own], None).expect("one world");
        embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8).expect("embedded");
        ComponentEncoder::default().validate(true).module(&module).expect("a module").encode().expect("encoded")
    }

    fn text(&self) -> String {
        let mut data = Data::default();
        let mut functions = String::new();
        let mut export = |interface: &str, function: &str, params: &str, code: &str, answer: Option<usize>| {
            let name = format!("leadwire:plugin/{interface}@1.0.0#{function}");
            let answer = answer.expect("every function answers by a pointer");
            write!(
                functions,
                "(func (export \"{name}\") {params} (result i32)
                   (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                   {code}
                   (i32.const {answer}))
                 (func (export \"cabi_post_{name}\") (param i32) (global.set $heap (global.get $base)))"
            )
            .expect("a string takes everything");
        };

        let manifest = data.manifest(self);
        export("lifecycle", "describe", "", &self.describe, Some(manifest));
        let init = match &self.init.1 {
            Some(reason) => data.result(1, reason),
            None => data.result(0, ""),
        };
        export("lifecycle", "init", "(param i32 i32)", &self.init.0, Some(init));
        const EVENT: &str = "(param i32 i32 i32 i32 i32 i32 i32)";
        if let Some((code, answer)) = &self.enrich {
            let (answer, copies) = data.list_result(answer, 20, Data::edit);
            export("enrich", "enrich", EVENT, &format!("{code} {copies}"), Some(answer));
        }
        if let Some((code, answer)) = &self.filter {
            let (answer, copies) = data.list_result(answer, 28, Data::verdict);
            let params = "(param i32 i32 i32 i32 i32 i32 i32 i32 i32)";
            export("filter", "filter", params, &format!("{code} {copies}"), Some(answer));
            let hides = data.hides(&self.hides);
            export("filter", "hides", "", "", Some(hides));
        }
        if let Some((code, answer)) = &self.filter_lines {
            let (answer, copies) = data.list_result(answer, 20, Data::decided);
            let params = "(param i32 i32 i32 i32 i32)";
            export("filter-lines", "filter", params, &format!("{code} {copies}"), Some(answer));
            let hides = data.hides(&self.hides);
            export("filter-lines", "hides", "", "", Some(hides));
        }
        if let Some((code, denial)) = &self.authorize {
            let answer = data.decision(denial.as_deref());
            export("authorize", "connect", "(param i32 i32 i32 i32 i32 i32)", code, Some(answer));
            export("authorize", "subscribe", "(param i32 i32 i32 i32 i32 i32 i32 i32)", code, Some(answer));
        }

        if let Some((commands, code, answer)) = &self.before {
            let list = data.space(8);
            data.strings(list, commands);
            export("before", "commands", "", "", Some(list));
            let (answer, copies) = data.ruling(answer);
            let params = "(param i32 i32 i32 i32 i32 i32 i32 i32)";
            export("before", "before", params, &format!("{code} {copies}"), Some(answer));
        }

        if let Some((wants, code, answer)) = &self.after {
            let answer_to_wants = data.wants(wants);
            export("after", "wants", "", "", Some(answer_to_wants));
            let (answer, copies) = data.outcome(answer);
            // The id, the seq, the time, the event, the state.
            let params = "(param i32 i32 i32 f64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)";
            export("after", "after", params, &format!("{code} {copies}"), Some(answer));
        }

        let wasi = if self.wasi { WASI_IMPORTS } else { "" };
        let realloc = &self.realloc;
        let base = data.bytes.len().next_multiple_of(16);
        let pages = base / 65536 + 17;
        let bytes: String = data.bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "\\{byte:02x}").expect("a string takes everything");
            text
        });
        format!(
            "(module
               (import \"leadwire:plugin/host@1.0.0\" \"log\" (func $log (param i32 i32 i32 i32)))
               (import \"leadwire:plugin/host@1.0.0\" \"count\" (func $count (param i32 i32 f64)))
               {wasi}
               (memory (export \"memory\") {pages})
               (global $base i32 (i32.const {base})) (global $heap (mut i32) (i32.const {base}))
               (global $calls (mut i32) (i32.const 0))
               (data (i32.const 0) \"{bytes}\")
               (func $recurse (param i32) (result i32) (i32.add (call $recurse (local.get 0)) (i32.const 1)))
               (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (local i32)
                 {realloc}
                 (local.set 4 (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                 (global.set $heap (i32.add (local.get 4) (local.get 3)))
                 (local.get 4))
               {functions})"
        )
    }
}

/// The first page of a guest's memory, which contains its answers.
struct Data {
    bytes: Vec<u8>,
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
    fn space(&mut self, size: usize) -> usize {
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

    fn strings(&mut self, at: usize, texts: &[String]) {
        let start = self.space(8 * texts.len());
        for (index, text) in texts.iter().enumerate() {
            self.string(start + 8 * index, text);
        }
        self.put(at, start);
        self.put(at + 4, texts.len());
    }

    fn manifest(&mut self, guest: &Guest) -> usize {
        let at = self.space(44);
        self.string(at, &guest.name);
        self.string(at + 8, &guest.version);
        self.strings(at + 16, &guest.events);
        self.strings(at + 24, &guest.roles);
        self.strings(at + 32, &guest.fields);
        self.bytes[at + 40] = guest.whole_payload.into();
        at
    }

    fn result(&mut self, case: u8, text: &str) -> usize {
        let at = self.space(12);
        self.bytes[at] = case;
        self.string(at + 4, text);
        at
    }

    fn list_result<T>(
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
    fn edit(&mut self, at: usize, edit: &Edit) -> String {
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

    fn verdict(&mut self, at: usize, verdict: &Verdict) -> String {
        self.string(at, verdict.role);
        self.decided(at + 8, verdict)
    }

    /// A verdict without its role.
    fn decided(&mut self, at: usize, verdict: &Verdict) -> String {
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

    fn hides(&mut self, hides: &[(String, Vec<String>)]) -> usize {
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

    fn ruling(&mut self, answer: &Result<Ruling, String>) -> (usize, String) {
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

    fn wants(&mut self, wants: &Wants) -> usize {
        let at = self.space(24);
        self.strings(at, &wants.events);
        self.strings(at + 8, &wants.effects);
        self.strings(at + 16, &wants.webhook_hosts);
        at
    }

    fn outcome(&mut self, answer: &Result<Outcome, String>) -> (usize, String) {
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

    fn decision(&mut self, denial: Option<&str>) -> usize {
        let at = self.space(16);
        if let Some(reason) = denial {
            self.bytes[at + 4] = 1;
            self.string(at + 8, reason);
        }
        at
    }
}

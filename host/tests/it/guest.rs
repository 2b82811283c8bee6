//! Hand-written plugins, for cases that no toolchain produces: answers are laid out byte by byte in the canonical ABI,
//! and the code of a hook is a few lines of WebAssembly text.

// Explicit paths: a unit test in `src` includes this file by path, and would look for them beside it.
#[path = "guest/answer.rs"]
mod answer;
#[path = "guest/layout.rs"]
mod layout;

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use answer::owned;
use layout::Data;

pub use answer::{Audience, Edit, FIRST_ID, Outcome, Ruling, Verdict, Wants, everyone, outcome, remove, set};

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

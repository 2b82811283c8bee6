//! Record of what the server answers and sends, for the check of the contract: in debug builds, if
//! `RECORD_CONTRACT` names a folder.
//!
//! Every kind of answer is written once: the same members with values of the same types are the same kind. The check
//! compares the record of the whole test suite with the documents.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    path::PathBuf,
    sync::LazyLock,
};

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{MatchedPath, Request},
    http::header,
    response::Response,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::delivery::line::Message;

/// Longest body that is recorded.
const MAX_BYTES: usize = 1024 * 1024;
/// Number of payloads of one name that are all looked at; after that, one in [`STEP`].
const FIRST: u64 = 2000;
const STEP: u64 = 101;

static RECORD: LazyLock<Option<Record>> = LazyLock::new(Record::open);

struct Record {
    written: Mutex<RecordFile>,
}

struct RecordFile {
    file: File,
    /// Hashes of the kinds that are in the file.
    kinds: HashSet<u64>,
    looked_at: HashMap<String, u64>,
}

impl Record {
    fn open() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("RECORD_CONTRACT").filter(|_| cfg!(debug_assertions))?);
        let path = folder.join(format!("{}.jsonl", uuid::Uuid::new_v4()));
        let file =
            fs::create_dir_all(&folder).and_then(|()| OpenOptions::new().create_new(true).append(true).open(path));
        match file {
            Ok(file) => {
                let written = RecordFile { file, kinds: HashSet::new(), looked_at: HashMap::new() };
                Some(Self { written: Mutex::new(written) })
            }
            Err(error) => {
                tracing::error!("the contract cannot be recorded in {}: {error}", folder.display());
                None
            }
        }
    }

    fn add(&self, what: &str, name: &str, body: &str) {
        let mut written = self.written.lock();
        let count = written.looked_at.entry(format!("{what} {name}")).or_default();
        *count += 1;
        if *count > FIRST && !count.is_multiple_of(STEP) {
            return;
        }
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap_or_default() };
        let mut hasher = DefaultHasher::new();
        (what, name, body["code"].as_str()).hash(&mut hasher);
        kind(&body, &mut hasher);
        if written.kinds.insert(hasher.finish()) {
            let line = format!("{}\n", json!({"what": what, "name": name, "body": body}));
            if let Err(error) = written.file.write_all(line.as_bytes()) {
                tracing::error!("the contract cannot be recorded: {error}");
            }
        }
    }
}

/// Hashes the names of members and the types of values.
fn kind(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => 0.hash(hasher),
        Value::Bool(_) => 1.hash(hasher),
        Value::Number(_) => 2.hash(hasher),
        Value::String(_) => 3.hash(hasher),
        Value::Array(items) => {
            4.hash(hasher);
            // Long lists repeat themselves.
            items.iter().take(3).for_each(|item| kind(item, hasher));
        }
        Value::Object(members) => {
            5.hash(hasher);
            for (name, value) in members {
                name.hash(hasher);
                kind(value, hasher);
            }
        }
    }
}

/// Records an event that is sent.
pub(crate) fn event(message: &Message) {
    if let Some(record) = &*RECORD {
        record.add("event", message.name(), message.body());
    }
}

/// Records the acknowledgement of an event.
pub(crate) fn ack(name: &str, body: &Value) {
    if let Some(record) = &*RECORD {
        record.add("ack", name, &body.to_string());
    }
}

/// Route whose response is recorded.
pub(crate) struct RecordedRoute(Option<String>);

impl RecordedRoute {
    pub(crate) fn of(request: &Request) -> Self {
        let name = || {
            let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
            format!("{} {route}", request.method())
        };
        Self(RECORD.is_some().then(name))
    }

    /// Records a response with its body, and returns the same response.
    pub(crate) async fn answer(&self, response: Response) -> Response {
        let (Some(record), Some(route)) = (&*RECORD, &self.0) else { return response };
        let name = format!("{route} {}", response.status().as_u16());
        let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
            kind.to_str().is_ok_and(|kind| kind.starts_with("application/json") || kind.ends_with("problem+json"))
        });
        let is_short = response.body().size_hint().upper().is_some_and(|bytes| bytes <= MAX_BYTES as u64);
        if !is_json || !is_short {
            record.add("answer", &name, "");
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, MAX_BYTES).await.unwrap_or_default();
        record.add("answer", &name, &String::from_utf8_lossy(&bytes));
        Response::from_parts(parts, Body::from(bytes))
    }
}

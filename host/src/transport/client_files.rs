//! Files for front ends, built into the program: the client package, its bundle for plain pages, and
//! `socket.io-client`, at the paths that tutorials expect.

use std::{fmt::Write, sync::LazyLock};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

/// Path of `socket.io-client`, as tutorials have it. It is below the path of the engine, so the front serves it.
pub(crate) const SOCKET_IO: &str = "/socket.io/socket.io.js";

static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/client_files.rs"));

/// Entity tags of the files, in their order.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |bytes: &[u8]| format!("\"{}\"", &hex::encode(Sha256::digest(bytes))[..16]);
    FILES.iter().map(|(_, bytes)| tag(bytes).parse().expect("digits and quotes are visible ASCII")).collect()
});

/// Returns the routes of the files.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/client/", get(async || index()))
        .route("/client/{file}", get(async |Path(name): Path<String>, headers: HeaderMap| file(&name, &headers)))
}

/// Answers with `socket.io-client`.
pub(crate) fn socket_io(headers: &HeaderMap) -> Response {
    file("socket.io.js", headers)
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(at) = FILES.iter().position(|(known, _)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let ((_, bytes), tag) = (FILES[at], &TAGS[at]);
    let (kind, caching) = match name.rsplit_once('.') {
        Some((_, "js")) => ("text/javascript; charset=utf-8", "no-cache"),
        // Its name has a hash of its content.
        _ => ("application/gzip", "public, max-age=31536000, immutable"),
    };
    let common = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static(caching))];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], Body::from(bytes)).into_response()
}

/// Page that names the files.
fn index() -> Response {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Leadwire: files for front ends</title>\
         <h1>Files for front ends</h1>\n",
    );
    if FILES.is_empty() {
        page.push_str(
            "<p>This program was built without them. Run <code>cargo xtask run</code>, which builds them in.\n",
        );
    }
    page.push_str("<ul>\n");
    for (name, bytes) in FILES {
        let (path, about) = match *name {
            "socket.io.js" => (SOCKET_IO.to_owned(), "socket.io-client, for a page without a bundler"),
            "leadwire.js" => {
                (format!("/client/{name}"), "the client and socket.io-client, for a page without a bundler")
            }
            _ => (format!("/client/{name}"), "the package: <code>npm install</code> the address of this file"),
        };
        let _ = writeln!(page, "<li><a href=\"{path}\">{path}</a> ({} KB): {about}", bytes.len().div_ceil(1024));
    }
    page.push_str("</ul>\n<p>The contract: <a href=\"/api/openapi.json\">OpenAPI</a>, <a href=\"/api/asyncapi.json\">AsyncAPI</a>.\n");
    let policy = HeaderValue::from_static("default-src 'none'");
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

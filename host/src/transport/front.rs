//! Front: the checks that every request passes first, for HTTP and for Socket.IO.
//!
//! It refuses requests that can be read in two ways, tells pages of other origins that they may not call, and adds the
//! headers that no response may lack.
#![expect(clippy::result_large_err, reason = "a refusal is created, returned and dropped")]

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, Version, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};

use super::{
    client_files,
    http::{self, problem::Problem},
    origin::Origins,
    socket,
};
use crate::transport::request_id;

/// Headers that a request may have only once. Two are two opinions, and a proxy in front of the server may have used
/// the other one.
const SINGLE: [HeaderName; 4] = [header::HOST, header::AUTHORIZATION, header::CONTENT_TYPE, header::ORIGIN];
/// Headers that pages may send regardless of the configuration, because calls need them.
const CALL_HEADERS: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    HeaderName::from_static("idempotency-key"),
    request_id::REQUEST_ID,
];
const EXPOSED_HEADERS: [HeaderName; 5] =
    [header::ETAG, header::LOCATION, header::RETRY_AFTER, request_id::REQUEST_ID, http::lead::LEADWIRE_SEQ];

/// Puts the front before all routes.
pub fn before(router: Router, settings: &http::HttpConfig) -> Router {
    let origins = Arc::new(Origins::new(&settings.cors_origins, settings.any_origin_is_loopback));
    let cors = cors(settings, &origins);
    router.layer(cors).layer(middleware::from_fn_with_state(origins, front))
}

/// Forbids content sniffing: browsers must take each response for what it says it is.
pub fn without_sniffing(router: Router) -> Router {
    router.layer(middleware::map_response(async |mut response: Response| {
        forbid_sniffing(&mut response);
        response
    }))
}

fn forbid_sniffing(response: &mut Response) {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Lets pages of the configured origins call; those that are configured by name may also send cookies of a proxy in
/// front.
fn cors(settings: &http::HttpConfig, origins: &Arc<Origins>) -> CorsLayer {
    let (named, trusted) = (origins.clone(), origins.clone());
    let allowed = if origins.is_open() {
        AllowOrigin::any()
    } else {
        AllowOrigin::predicate(move |origin, _| named.admit(origin))
    };
    let configured = settings.cors_headers.iter().filter_map(|name| name.parse().ok());
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_credentials(AllowCredentials::predicate(move |origin, _| !trusted.is_open() && trusted.names(origin)))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(CALL_HEADERS.into_iter().chain(configured).collect::<Vec<_>>())
        .expose_headers(EXPOSED_HEADERS)
        .max_age(Duration::from_secs(600))
}

async fn front(State(origins): State<Arc<Origins>>, mut request: Request, next: Next) -> Response {
    let is_socket = socket::conn::query::is_for_engine(request.uri().path());
    let id = request_id::request_id(&request);
    let is_allowed = origins.allow(request.headers());
    if let Some(origin) = request.headers().get(header::ORIGIN).filter(|_| !is_allowed) {
        origins.note_refused(origin);
    }

    let named = HeaderValue::from_str(&id).expect("ids are visible ASCII");
    if is_socket {
        // The handshake, which comes later, reads from here the id of the request that it belongs to.
        request.headers_mut().insert(request_id::REQUEST_ID, named.clone());
    }

    let mut response = match check(&request) {
        Err(problem) => {
            let mut response = http::problem::write_out(problem.into_response(), &id);
            response.headers_mut().insert(request_id::REQUEST_ID, named.clone());
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Ok(()) if request.method().is_safe() && request.uri().path() == client_files::SOCKET_IO => {
            client_files::socket_io(request.headers())
        }
        // A page that may not read responses over HTTP could read them over a WebSocket, to which CORS does not apply.
        Ok(()) if is_socket && !is_allowed => forbidden(),
        Ok(()) => next.run(request).await,
    };

    forbid_sniffing(&mut response);
    if is_socket {
        response.headers_mut().entry(request_id::REQUEST_ID).or_insert(named);
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    }
    response
}

/// Refusal in the form that Engine.IO uses.
fn forbidden() -> Response {
    let body = r#"{"code":4,"message":"Forbidden: the origin of this page is not allowed"}"#;
    (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Checks the headers that HTTP requires, and those that may be there only once.
fn check(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    for name in SINGLE {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Problem::malformed(format!("{name} must be given only once")));
        }
    }
    match headers.get(header::HOST) {
        None if request.version() >= Version::HTTP_11 => Err(Problem::malformed("host is missing")),
        Some(host) if !host.is_empty() && Authority::try_from(host.as_bytes()).is_err() => {
            Err(Problem::malformed("host must be a name or an address with an optional port"))
        }
        _ => Ok(()),
    }
}

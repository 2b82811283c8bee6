//! The HTTP interface under `/api`: routes beside their handlers, a file a noun.
//!
//! Handlers turn a request into a command or a query and its outcome into JSON; what is allowed and what
//! is seen is decided below, in `app`. The layers here are the same for every route.
#![allow(clippy::result_large_err, reason = "a refusal is made, returned and gone")]

use std::{any::Any, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use metrics::{counter, histogram};
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use tracing::Instrument;

use super::{address::ClientAddress, socket::presence::Viewers};
use crate::{app::App, auth::Auth, delivery::explain::Explainer, plugin::Plugins};

mod activity;
mod audit;
mod auth;
mod effect;
mod event;
pub mod extract;
mod health;
mod lead;
mod list;
mod plugin;
mod presence;
pub mod problem;
pub mod settings;
mod under_way;
mod user;

use problem::Problem;
pub use settings::Settings;
pub use under_way::UnderWay;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells why something is not ready, if it is not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    pub app: App,
    pub auth: Auth,
    pub plugins: Plugins,
    pub explainer: Arc<Explainer>,
    pub viewers: Viewers,
    /// Whether the delivery of events keeps up with the log.
    pub tail: Check,
    pub settings: Arc<Settings>,
    pub under_way: UnderWay,
    /// Cancelled when the server is about to stop, and others should take over.
    pub draining: CancellationToken,
}

/// Every HTTP route, with its layers; the front is not among them, because Socket.IO needs it as well.
pub fn router(api: Api) -> Router {
    Router::new()
        .merge(auth::routes())
        .merge(user::routes())
        .merge(lead::routes())
        .merge(activity::routes())
        .merge(presence::routes())
        .merge(plugin::routes())
        .merge(effect::routes())
        .merge(event::routes())
        .merge(audit::routes())
        .merge(health::routes())
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(api.clone(), envelope))
        .layer(CompressionLayer::new())
        .with_state(api)
}

/// What every request has: an id, a span, a deadline; and every answer: the id, no caching, one form of refusal.
async fn envelope(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.extensions_mut().insert(extract::RequestId(id.as_str().into()));
    // The query stays out of the span: it may hold what people searched for.
    let path = request.uri().path();
    let client = ClientAddress::field(request.extensions());
    let span = tracing::info_span!("http", request.id = %id, method = %request.method(), path, client);
    let measured = Measured::begin(&request);
    let under_api = path == "/api" || path.starts_with("/api/");

    let counted = api.under_way.begin(request.extensions_mut());
    let answer = async {
        let limit = api.settings.request_timeout;
        let counted = match counted {
            Ok(counted) => counted,
            Err(problem) => return problem.into_response(),
        };
        if let Err(problem) = extract::Params::of(request.uri()).map(drop) {
            return problem.into_response();
        }
        let response = tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
            tracing::warn!(?limit, "answered 503: the request took too long");
            let detail = "the request took too long and was given up";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail).into_response()
        });
        tracing::debug!(status = response.status().as_u16(), "answered");
        response.map(|body| counted.until_sent(body))
    };
    let mut response = problem::write_out(answer.instrument(span).await, &id);
    measured.end(response.status());
    if under_api {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(&id).expect("ids are visible ASCII"));
    response
}

/// A request that is being answered, as metrics tell of it: by the route and never by the path, which names leads.
struct Measured {
    route: String,
    method: &'static str,
    since: Instant,
}

impl Measured {
    fn begin(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
        let method = match request.method().as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PATCH" => "PATCH",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            // Anybody can make up another one.
            _ => "other",
        };
        Self { route, method, since: Instant::now() }
    }

    fn end(self, status: StatusCode) {
        let Self { route, method, since } = self;
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"][usize::from(status.as_u16() / 100).clamp(1, 5) - 1];
        let seconds = since.elapsed().as_secs_f64();
        histogram!("leadwire_http_request_seconds", "route" => route.clone(), "method" => method).record(seconds);
        counter!("leadwire_http_requests_total", "route" => route, "method" => method, "status" => class).increment(1);
    }
}

/// The caller's id, if it is one that can stand in a log line; else a new one.
pub(super) fn request_id(request: &Request) -> String {
    given_request_id(request.headers()).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

/// The id that a caller gave a request, if it can stand in a log line.
pub(super) fn given_request_id(headers: &HeaderMap) -> Option<&str> {
    let sane = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        (1..=128).contains(&id.len()) && id.bytes().all(plain)
    };
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane)
}

fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "answered 500: a handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

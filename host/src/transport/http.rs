//! HTTP interface under `/api`: routes beside their handlers, one file per resource.
//!
//! Handlers turn a request into a command or a query and its outcome into JSON; permissions and visibility are decided
//! below, in `app`. The layers here are the same for every route.
#![expect(clippy::result_large_err, reason = "a refusal is created, returned and dropped")]

mod activity;
pub(crate) mod api;
mod audit;
mod auth;
mod contract;
mod effect;
mod event;
pub mod extract;
mod health;
pub(crate) mod in_flight;
pub(crate) mod lead;
mod list;
mod plugin;
mod presence;
pub mod problem;
pub(crate) mod schema;
pub mod settings;
mod user;

use std::{any::Any, sync::LazyLock, time::Instant};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use metrics::{counter, histogram};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};
use tracing::Instrument;

use crate::transport::{
    address::ClientAddress,
    client_files,
    http::{
        api::ApiState,
        contract::Documents,
        problem::Problem,
        schema::{document, routes::ApiRoutes},
    },
    record::RecordedRoute,
    request_id::{REQUEST_ID, request_id},
    socket,
};

pub use in_flight::UnderWay;
pub use settings::HttpConfig;

/// Documents as they are served; built when somebody first asks.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| openapi().into());
static ASYNCAPI: LazyLock<Bytes> = LazyLock::new(|| socket::asyncapi().into());

/// Returns every route with its declaration.
fn routes() -> ApiRoutes {
    auth::routes()
        .merge(user::routes())
        .merge(lead::routes())
        .merge(activity::routes())
        .merge(presence::routes())
        .merge(plugin::routes())
        .merge(effect::routes())
        .merge(event::routes())
        .merge(audit::routes())
        .merge(contract::routes())
        .merge(health::routes())
}

/// Returns the OpenAPI document of every route.
pub fn openapi() -> String {
    let own = auth::components().into_iter().chain(plugin::components());
    document::text(&routes().operations, own)
}

/// Returns every HTTP route, with its layers; the front is not among them, because Socket.IO needs it as well.
pub fn router(api: ApiState) -> Router {
    routes()
        .router
        .merge(client_files::routes())
        .layer(Extension(Documents { openapi: &OPENAPI, asyncapi: &ASYNCAPI }))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(api.clone(), envelope))
        .layer(CompressionLayer::new())
        .with_state(api)
}

/// Gives every request an id, a span and a deadline, and every response the id, no caching, and one form of refusal.
async fn envelope(State(api): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    request.extensions_mut().insert(extract::RequestId(id.as_str().into()));
    // The query stays out of the span: it may hold what people searched for.
    let path = request.uri().path();
    let client = ClientAddress::field(request.extensions());
    let span = tracing::info_span!("http", request.id = %id, method = %request.method(), path, client);
    let measured = RequestMetrics::begin(&request);
    let recorded = RecordedRoute::of(&request);
    let under_api = path == "/api" || path.starts_with("/api/");

    let counted = api.under_way.begin(request.extensions_mut());
    let answer = async {
        let limit = api.settings.request_timeout;
        let counted = match counted {
            Ok(counted) => counted,
            Err(problem) => return problem.into_response(),
        };
        if let Err(problem) = extract::QueryParams::of(request.uri()).map(drop) {
            return problem.into_response();
        }
        let response = tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
            tracing::warn!(?limit, "answered 503: the request took too long");
            let detail = "the request timed out";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", detail).into_response()
        });
        tracing::debug!(status = response.status().as_u16(), "answered");
        // Problems are recorded when they are written out.
        let response = if response.status().is_success() { recorded.answer(response).await } else { response };
        response.map(|body| counted.until_sent(body))
    };
    let mut response = problem::write_out(answer.instrument(span).await, &id);
    if !response.status().is_success() {
        response = recorded.answer(response).await;
    }
    measured.end(response.status());
    if under_api {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from_str(&id).expect("ids are visible ASCII"));
    response
}

/// Metrics of a request that is being answered: labelled by the route and never by the path, which names leads.
struct RequestMetrics {
    route: String,
    method: &'static str,
    since: Instant,
}

impl RequestMetrics {
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
            // Any client can make up another method.
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

fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "answered 500: a handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

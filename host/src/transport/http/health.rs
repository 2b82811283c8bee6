//! `/healthz` (liveness) and `/readyz` (readiness). Neither authenticates the caller, so neither says more than which
//! check fails, and the reason in one word; the details are in the log.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    store::{HealthCheck, HealthFailure},
    transport::http::{
        api::ApiState,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Server")
        .route(
            Operation::get("/healthz", "readHealth", "Is the process alive?")
                .access(Callers::Anyone)
                .answers(200, "It is.", "Health"),
            health,
        )
        .route(
            Operation::get("/readyz", "readReadiness", "Can the server serve?")
                .access(Callers::Anyone)
                .answers(200, "It can.", "Readiness")
                .answers(503, "It cannot.", "Readiness"),
            readiness,
        )
}

#[derive(Serialize)]
struct Liveness {
    status: &'static str,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    /// `ok` or `failing`, by check.
    checks: Map<String, Value>,
    /// Codes of the reasons, by check.
    #[serde(skip_serializing_if = "Map::is_empty")]
    reasons: Map<String, Value>,
}

async fn health() -> Json<Liveness> {
    Json(Liveness { status: "ok" })
}

async fn readiness(State(api): State<ApiState>) -> (StatusCode, Json<Readiness>) {
    let serving = if api.draining.is_cancelled() { Err("the server is stopping".into()) } else { Ok(()) };
    let own = [("serving", serving), ("log", (api.tail)()), ("plugins", api.plugins.ready())];
    let own = own.map(|(name, check)| {
        let failure = check.err().map(|reason| HealthFailure { code: "failing", reason });
        HealthCheck { name, failure }
    });
    let of_store = api.app.store().check().await;

    let (mut checks, mut reasons) = (Map::new(), Map::new());
    for HealthCheck { name, failure } in own.iter().chain(&*of_store) {
        let name = (*name).to_owned();
        let Some(HealthFailure { code, reason }) = failure else {
            checks.insert(name, "ok".into());
            continue;
        };
        tracing::warn!(check = name, code, reason, "not ready");
        reasons.insert(name.clone(), (*code).into());
        checks.insert(name, "failing".into());
    }
    let (code, status) =
        if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    (code, Json(Readiness { status, checks, reasons }))
}

//! `/healthz` and `/readyz`: is the process alive, and can it serve. Neither asks who is calling, so
//! neither says more than that; the reasons are in the log.

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};

use super::Api;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/healthz", get(health)).route("/readyz", get(readiness))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn readiness(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let database = api.app.store().refresh().await.map(drop).map_err(|error| error.to_string());
    let serving = if api.draining.is_cancelled() { Err("the server is stopping".into()) } else { Ok(()) };
    let checks =
        [("serving", serving), ("database", database), ("log", (api.tail)()), ("plugins", api.plugins.ready())];
    let mut words = serde_json::Map::new();
    let mut ready = true;
    for (name, check) in checks {
        if let Err(reason) = &check {
            tracing::warn!(check = name, reason, "not ready");
            ready = false;
        }
        words.insert(name.into(), if check.is_ok() { "ok" } else { "failing" }.into());
    }
    let (status, word) = if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    (status, Json(json!({"status": word, "checks": words})))
}

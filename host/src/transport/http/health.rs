//! `/healthz` and `/readyz`: is the process alive, and can it serve. Neither asks who is calling, so
//! neither says more than which check fails, and by a word why; the details are in the log.

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Map, Value, json};

use super::Api;
use crate::store::{Check, Failure};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/healthz", get(health)).route("/readyz", get(readiness))
}

async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn readiness(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let serving = if api.draining.is_cancelled() { Err("the server is stopping".into()) } else { Ok(()) };
    let own = [("serving", serving), ("log", (api.tail)()), ("plugins", api.plugins.ready())];
    let own = own.map(|(name, check)| {
        let failure = check.err().map(|reason| Failure { code: "failing", reason });
        Check { name, failure }
    });
    let of_store = api.app.store().check().await;

    let (mut words, mut reasons) = (Map::new(), Map::new());
    for Check { name, failure } in own.iter().chain(&*of_store) {
        let name = (*name).to_owned();
        let Some(Failure { code, reason }) = failure else {
            words.insert(name, "ok".into());
            continue;
        };
        tracing::warn!(check = name, code, reason, "not ready");
        reasons.insert(name.clone(), (*code).into());
        words.insert(name, "failing".into());
    }
    if reasons.is_empty() {
        return (StatusCode::OK, Json(json!({"status": "ready", "checks": words})));
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "checks": words, "reasons": reasons})))
}

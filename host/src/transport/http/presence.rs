//! `/api/presence`: who is online, and who looks at a lead.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::{
    Api,
    extract::{Caller, Params},
    problem::Problem,
};
use crate::app;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/presence", get(list))
}

async fn list(State(api): State<Api>, Caller(caller, _): Caller, mut params: Params) -> Result<Response, Problem> {
    let lead = params.one("leadId")?;
    params.finish()?;
    let Some(lead) = lead else {
        return Ok(Json(json!({"users": api.viewers.online()})).into_response());
    };
    // As in a path: what is no id is the id of nothing.
    let lead = lead.parse().map_err(|_| app::Error::NotFound("lead"))?;
    Ok(Json(&*api.viewers.of(&caller.user, lead).await?).into_response())
}

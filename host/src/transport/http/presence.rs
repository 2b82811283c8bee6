//! `/api/presence`: the users who are online, or the viewers of one lead.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    app,
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, QueryParams},
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/api/presence", get(list))
}

async fn list(
    State(api): State<ApiState>,
    HttpCaller(caller, _): HttpCaller,
    params: QueryParams,
) -> Result<Response, Problem> {
    let lead = params.parse(|params| params.one("leadId"))?;
    let Some(lead) = lead else {
        return Ok(Json(json!({"users": api.viewers.online()})).into_response());
    };
    // As in a path: a text that is not an id is answered like an unknown id.
    let lead = lead.parse().map_err(|_| app::Error::NotFound("lead"))?;
    Ok(Json(&*api.viewers.of(&caller.user, lead).await?).into_response())
}

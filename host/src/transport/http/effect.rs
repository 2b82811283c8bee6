//! `/api/plugins/{name}/effects`: effects that a plugin wants and that are not done (pending or parked), for
//! administrators to see, retry and drop.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use crate::{
    app,
    domain::policy::{Action, may},
    store::effect::EffectState,
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, QueryParams},
        list::ListResponse,
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/plugins/{name}/effects", get(list))
        .route("/api/plugins/{name}/effects/retry", post(retry_all))
        .route("/api/plugins/{name}/effects/{id}", delete(drop_one))
        .route("/api/plugins/{name}/effects/{id}/retry", post(retry))
}

async fn list(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path(name): Path<String>,
    params: QueryParams,
) -> Result<ListResponse, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let open = |text: &str| EffectState::from_name(text).filter(|state| *state != EffectState::Done);
    let (state, page) =
        params.parse(|params| Ok((params.parsed("state", "pending or parked", open)?, params.page(&api)?)))?;
    Ok(ListResponse(api.app.effects(&caller.actor(), &name, state, &page).await?))
}

async fn retry_all(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({"retried": api.app.retry_effects(&caller.principal(), &name).await?})))
}

async fn retry(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(api.app.retry_effect(&caller.principal(), &name, number(&id)?).await?))
}

async fn drop_one(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.app.drop_effect(&caller.principal(), &name, number(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Parses the number of an effect; a text that is not a number is answered like an unknown number.
fn number(id: &str) -> Result<i64, app::Error> {
    id.parse().map_err(|_| app::Error::NotFound("effect"))
}

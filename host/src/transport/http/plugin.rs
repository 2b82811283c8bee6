//! `/api/plugins`: what is loaded, what was refused and why.

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use super::{
    Api,
    extract::{Caller, Params},
    problem::Problem,
};
use crate::{
    app,
    domain::policy::{Deed, may},
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/plugins", get(list))
}

async fn list(State(api): State<Api>, caller: Caller, params: Params) -> Result<Json<Value>, Problem> {
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    params.finish()?;
    Ok(Json(json!({"generation": api.plugins.generation(), "items": api.plugins.status()})))
}

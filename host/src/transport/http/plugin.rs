//! `/api/plugins`: what is loaded, what was refused or held and why, and what is to become of it.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use super::{
    Api,
    extract::{Caller, MaybeObject, Params},
    problem::Problem,
};
use crate::{
    app,
    domain::{
        input::Input,
        policy::{Deed, may},
    },
    plugin::{PluginStatus, Shift, ShiftError},
    store::audit::Kind,
};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/plugins", get(list))
        .route("/api/plugins/{name}/promote", post(promote))
        .route("/api/plugins/{name}/drop", post(drop_held))
        .route("/api/plugins/{name}/rollback", post(roll_back))
}

async fn list(State(api): State<Api>, caller: Caller, params: Params) -> Result<Json<Value>, Problem> {
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    params.finish()?;
    let standings = api.app.standings().await?;
    let items = api.plugins.status().into_iter().map(|status| {
        let effects = standings.get(&status.name).map(app::effect::standing);
        let mut item = json!(status);
        item["effects"] = json!(effects);
        item
    });
    let (items, holds) = (items.collect::<Vec<_>>(), api.app.holds(&caller.actor()).await?);
    Ok(Json(json!({"generation": api.plugins.generation(), "items": items, "holds": holds})))
}

/// `hash`, where it is given, has to be what is held: what was looked at may have been replaced meanwhile.
async fn promote(
    state: State<Api>,
    name: Path<String>,
    caller: Caller,
    MaybeObject(body): MaybeObject,
) -> Result<Json<PluginStatus>, Problem> {
    let hash = hash("hash", &caller, body)?;
    shift(state, name, &caller, Shift::Promote { hash }).await
}

async fn drop_held(
    state: State<Api>,
    name: Path<String>,
    caller: Caller,
    MaybeObject(body): MaybeObject,
) -> Result<Json<PluginStatus>, Problem> {
    Input::new(body).finish().map_err(app::Error::from)?;
    shift(state, name, &caller, Shift::Drop).await
}

/// `from`, where it is given, has to be the hash in force: a request that is repeated does not roll forward again.
async fn roll_back(
    state: State<Api>,
    name: Path<String>,
    caller: Caller,
    MaybeObject(body): MaybeObject,
) -> Result<Json<PluginStatus>, Problem> {
    let from = hash("from", &caller, body)?;
    shift(state, name, &caller, Shift::RollBack { from }).await
}

/// The one field that an administrator may send.
fn hash(field: &'static str, caller: &Caller, body: Map<String, Value>) -> Result<Option<String>, app::Error> {
    may(&caller.actor(), Deed::Administer)?;
    let mut input = Input::new(body);
    let hash = input.text(field, 1, 64);
    input.finish()?;
    Ok(hash)
}

async fn shift(
    State(api): State<Api>,
    Path(name): Path<String>,
    caller: &Caller,
    shift: Shift,
) -> Result<Json<PluginStatus>, Problem> {
    let caller = caller.principal();
    may(&caller, Deed::Administer).map_err(app::Error::from)?;
    let (kind, hash) = match &shift {
        Shift::Promote { hash } => (Kind::PluginPromoted, hash.clone()),
        Shift::Drop => (Kind::PluginDropped, None),
        Shift::RollBack { from } => (Kind::PluginRolledBack, from.clone()),
    };
    let detail = hash.map(|hash| ("hash".to_owned(), Value::from(hash))).into_iter().collect();
    // The body was awaited since the caller was judged.
    api.app.order(&caller, kind, &name, detail).await?;
    let (app, ordered) = (api.app.clone(), name.clone());
    // Compiling a plugin takes a while, and the thread that does so is waited for.
    let shifted = tokio::task::spawn_blocking(move || api.plugins.shift(&name, shift)).await;
    let shifted = shifted.map_err(|panicked| Problem::from(app::Error::Internal(panicked.into())))?;
    if let Err(error) = &shifted
        && let Err(error) = app.order_failed(&caller, kind, &ordered, &error.to_string()).await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot record that an order failed");
    }
    shifted.map(Json).map_err(|error| {
        let problem = |status, code| Problem::new(status, code, error.to_string());
        match error {
            ShiftError::Unknown => problem(StatusCode::NOT_FOUND, "plugin_not_found"),
            ShiftError::NothingHeld => problem(StatusCode::CONFLICT, "nothing_held"),
            ShiftError::OtherHeld(_) => problem(StatusCode::CONFLICT, "other_held"),
            ShiftError::NothingBefore | ShiftError::NotKept(_) => problem(StatusCode::CONFLICT, "nothing_before"),
            ShiftError::OtherInForce(_) => problem(StatusCode::CONFLICT, "other_in_force"),
            ShiftError::Useless(_) | ShiftError::NotInForce(_) => problem(StatusCode::CONFLICT, "not_in_force"),
            ShiftError::Failed(error) => app::Error::Internal(error.into()).into(),
        }
    })
}

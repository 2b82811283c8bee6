//! Activities: a lead's list under the lead, each one under `/api/activities`.

use axum::{Json, Router, extract::State, http::StatusCode, response::Response, routing::get};
use serde_json::Value;

use super::{
    Api,
    extract::{Caller, Id, Key, Named, Object, Params},
    lead::answer,
    list::List,
    problem::Problem,
};
use crate::{
    app,
    domain::{
        activity::ActivityFields,
        command::Command,
        id::{ActivityId, LeadId},
    },
};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/leads/{id}/activities", get(list).post(create))
        .route("/api/activities/{id}", get(read).patch(update).delete(delete))
}

impl Named for ActivityId {
    const NOUN: &'static str = "activity";
}

async fn list(
    State(api): State<Api>,
    caller: Caller,
    Id(lead): Id<LeadId>,
    mut params: Params,
) -> Result<List, Problem> {
    let page = params.page(&api)?;
    params.finish()?;
    Ok(List(api.app.activities(&caller.actor(), lead, &page).await?))
}

async fn create(
    State(api): State<Api>,
    caller: Caller,
    Id(lead): Id<LeadId>,
    key: Key,
    Object(body): Object,
) -> Result<Response, Problem> {
    let fields = ActivityFields::parse(body).map_err(app::Error::from)?;
    let outcome = api.app.execute(&caller.principal(), Command::CreateActivity { lead, fields }, key.0).await?;
    Ok(answer(StatusCode::CREATED, outcome))
}

async fn read(State(api): State<Api>, caller: Caller, Id(activity): Id<ActivityId>) -> Result<Json<Value>, Problem> {
    Ok(Json(api.app.activity(&caller.actor(), activity).await?))
}

async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(activity): Id<ActivityId>,
    Object(patch): Object,
) -> Result<Response, Problem> {
    let outcome = api.app.execute(&caller.principal(), Command::UpdateActivity { activity, patch }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn delete(State(api): State<Api>, caller: Caller, Id(activity): Id<ActivityId>) -> Result<Response, Problem> {
    let outcome = api.app.execute(&caller.principal(), Command::DeleteActivity { activity }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

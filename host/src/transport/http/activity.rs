//! Activities: the list of a lead is under `/api/leads/{id}/activities`, each activity under `/api/activities`.

use axum::{Json, Router, extract::State, http::StatusCode, response::Response, routing::get};
use serde_json::Value;

use crate::{
    app,
    domain::{
        activity::ActivityFields,
        command::Command,
        id::{ActivityId, LeadId},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, Id, IdempotencyHeader, JsonBody, QueryParams, ResourceId},
        lead::answer,
        list::ListResponse,
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/leads/{id}/activities", get(list).post(create))
        .route("/api/activities/{id}", get(read).patch(update).delete(delete))
}

impl ResourceId for ActivityId {
    const NOUN: &'static str = "activity";
}

async fn list(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    params: QueryParams,
) -> Result<ListResponse, Problem> {
    let page = params.parse(|params| params.page(&api))?;
    Ok(ListResponse(api.app.activities(&caller.actor(), lead, &page).await?))
}

async fn create(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    key: IdempotencyHeader,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let fields = ActivityFields::parse(body).map_err(app::Error::from)?;
    let outcome = api.app.execute(&caller.principal(), Command::CreateActivity { lead, fields }, key.0).await?;
    Ok(answer(StatusCode::CREATED, outcome))
}

async fn read(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(activity): Id<ActivityId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(api.app.activity(&caller.actor(), activity).await?))
}

async fn update(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(activity): Id<ActivityId>,
    JsonBody(patch): JsonBody,
) -> Result<Response, Problem> {
    let outcome = api.app.execute(&caller.principal(), Command::UpdateActivity { activity, patch }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn delete(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(activity): Id<ActivityId>,
) -> Result<Response, Problem> {
    let outcome = api.app.execute(&caller.principal(), Command::DeleteActivity { activity }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

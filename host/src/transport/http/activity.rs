//! Activities: the list of a lead is under `/api/leads/{id}/activities`, each activity under `/api/activities`.

use axum::{Json, extract::State, http::StatusCode, response::Response};
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
        extract::{HttpCaller, Id, IdempotencyHeader, JsonBody, PAGE, QueryParams, ResourceId},
        lead::answer,
        list::ListResponse,
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

const OWN: Callers =
    Callers::Restricted("For ADMIN and MANAGER; for SALES, its own. Nobody changes those of the server.");

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Activities")
        .route(
            Operation::get(
                "/api/leads/{id}/activities",
                "listActivities",
                "List the activities of a lead, newest first",
            )
            .query(PAGE)
            .answers(200, "A page of activities.", "ActivityPage")
            .refuses(&["lead_not_found"])
            .asks_plugins(),
            list,
        )
        .route(
            Operation::post("/api/leads/{id}/activities", "createActivity", "Add an activity to a lead")
                .access(Callers::Restricted("Not for VIEWER."))
                .body("ActivityCreate")
                .idempotent()
                .answers(201, "The activity.", "Activity")
                .with_headers(&["Location"])
                .refuses(&["lead_not_found"])
                .commands(),
            create,
        )
        .route(
            Operation::get("/api/activities/{id}", "readActivity", "Read an activity")
                .answers(200, "The activity.", "Activity")
                .refuses(&["activity_not_found"])
                .asks_plugins(),
            read,
        )
        .route(
            Operation::patch("/api/activities/{id}", "updateActivity", "Change an activity")
                .access(OWN)
                .merge_patch("ActivityPatch")
                .answers(200, "The activity.", "Activity")
                .refuses(&["activity_not_found"])
                .commands(),
            update,
        )
        .route(
            Operation::delete("/api/activities/{id}", "deleteActivity", "Delete an activity")
                .access(OWN)
                .answers_nothing("The activity is deleted.")
                .refuses(&["activity_not_found"])
                .commands(),
            delete,
        )
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
    let page = params.parse(&[PAGE], |params| params.page(&api))?;
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

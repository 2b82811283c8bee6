//! `/api/users`: accounts, for administrators; possible owners of a lead, for everyone.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    app,
    domain::{
        id::UserId,
        policy::{Action, may},
        user::{NewUser, User, UserPatch},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, Id, IdempotencyHeader, JsonBody, QueryParams, ResourceId},
        list::ListResponse,
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/api/users", get(list).post(create)).route("/api/users/{id}", get(read).patch(update))
}

impl ResourceId for UserId {
    const NOUN: &'static str = "user";
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    let page = params.parse(|params| {
        if params.parsed("assignable", "true or false", |text| text.parse::<bool>().ok())? == Some(true) {
            return Ok(None);
        }
        may(&caller.actor(), Action::Administer)?;
        params.page(&api).map(Some)
    })?;
    let Some(page) = page else { return Ok(ListResponse(api.app.assignable_users().await?)) };
    Ok(ListResponse(api.app.users(&caller.actor(), &page).await?))
}

async fn create(
    State(api): State<ApiState>,
    caller: HttpCaller,
    key: IdempotencyHeader,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    // Checked before the body is judged: its faults would tell which fields an account has.
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let new = NewUser::parse(body).map_err(app::Error::from)?;
    let user = api.app.create_user(&caller.principal(), new, key.0).await?;
    let location = format!("/api/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(user)).into_response())
}

async fn read(State(api): State<ApiState>, caller: HttpCaller, Id(id): Id<UserId>) -> Result<Json<User>, Problem> {
    Ok(Json(api.app.user(&caller.actor(), id).await?))
}

async fn update(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(id): Id<UserId>,
    JsonBody(body): JsonBody,
) -> Result<Json<User>, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let patch = UserPatch::parse(body).map_err(app::Error::from)?;
    Ok(Json(api.app.update_user(&caller.principal(), id, patch).await?))
}

//! `/api/users`: accounts, for administrators; who can own a lead, for everyone.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    Api,
    extract::{Caller, Id, Key, Named, Object, Params},
    list::List,
    problem::Problem,
};
use crate::{
    app,
    domain::{
        id::UserId,
        policy::{Deed, may},
        user::{NewUser, User, UserPatch},
    },
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/users", get(list).post(create)).route("/api/users/{id}", get(read).patch(update))
}

impl Named for UserId {
    const NOUN: &'static str = "user";
}

async fn list(State(api): State<Api>, caller: Caller, mut params: Params) -> Result<List, Problem> {
    let assignable = params.parsed("assignable", "true or false", |text| text.parse::<bool>().ok())?;
    if assignable == Some(true) {
        params.finish()?;
        return Ok(List(api.app.assignable_users().await?));
    }
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    let page = params.page(&api)?;
    params.finish()?;
    Ok(List(api.app.users(&caller.actor(), &page).await?))
}

async fn create(State(api): State<Api>, caller: Caller, key: Key, Object(body): Object) -> Result<Response, Problem> {
    // Before the body is judged: its faults would tell which fields an account has.
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    let new = NewUser::parse(body).map_err(app::Error::from)?;
    let user = api.app.create_user(&caller.principal(), new, key.0).await?;
    let location = format!("/api/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(user)).into_response())
}

async fn read(State(api): State<Api>, caller: Caller, Id(id): Id<UserId>) -> Result<Json<User>, Problem> {
    Ok(Json(api.app.user(&caller.actor(), id).await?))
}

async fn update(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<UserId>,
    Object(body): Object,
) -> Result<Json<User>, Problem> {
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    let patch = UserPatch::parse(body).map_err(app::Error::from)?;
    Ok(Json(api.app.update_user(&caller.principal(), id, patch).await?))
}

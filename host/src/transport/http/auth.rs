//! `/api/auth`: login, refresh, logout, the current user and their password.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Map, Value, json};

use crate::{
    auth::TokenPair,
    domain::{
        input::{Input, Invalid},
        user::{MAX_PASSWORD_CHARS, User, password},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, JsonBody, OptionalJsonBody, OriginExtractor},
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/auth/login", post(login))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(logout))
        .route("/api/auth/logout-all", post(logout_all))
        .route("/api/auth/me", get(me))
        .route("/api/auth/password", post(change_password))
}

async fn login(
    State(api): State<ApiState>,
    OriginExtractor(origin): OriginExtractor,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Problem> {
    let mut input = Input::new(body);
    let email = input.required("email", |input, key| input.text(key, 1, 254));
    let password = input.required("password", |input, key| input.secret(key, 1, MAX_PASSWORD_CHARS));
    input.finish().map_err(invalid)?;
    let (email, password) =
        (email.expect("finish fails if it is missing"), password.expect("finish fails if it is missing"));
    Ok(granted(api.auth.login(&email, password, &origin).await?))
}

async fn refresh(
    State(api): State<ApiState>,
    OriginExtractor(origin): OriginExtractor,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Problem> {
    Ok(granted(api.auth.refresh(refresh_token(body).map_err(invalid)?, &origin).await?))
}

async fn logout(State(api): State<ApiState>, JsonBody(body): JsonBody) -> Result<StatusCode, Problem> {
    api.auth.logout(refresh_token(body).map_err(invalid)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout_all(
    State(api): State<ApiState>,
    caller: HttpCaller,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<StatusCode, Problem> {
    Input::new(body).finish().map_err(invalid)?;
    api.auth.logout_all(&caller.principal()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn me(caller: HttpCaller) -> Json<User> {
    Json(caller.0.user)
}

async fn change_password(
    State(api): State<ApiState>,
    caller: HttpCaller,
    JsonBody(body): JsonBody,
) -> Result<StatusCode, Problem> {
    let mut input = Input::new(body);
    let current = input.required("currentPassword", |input, key| input.secret(key, 1, MAX_PASSWORD_CHARS));
    let new = input.required("newPassword", password);
    input.finish().map_err(invalid)?;
    let (current, new) = (current.expect("finish fails if it is missing"), new.expect("finish fails if it is missing"));
    api.auth.change_password(&caller.principal(), current, new).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refresh_token(body: Map<String, Value>) -> Result<String, Invalid> {
    let mut input = Input::new(body);
    let token = input.required("refreshToken", |input, key| input.secret(key, 1, 1000));
    input.finish()?;
    Ok(token.expect("finish fails if it is missing"))
}

fn granted(grant: TokenPair) -> Json<Value> {
    Json(json!({
        "accessToken": grant.access_token,
        "refreshToken": grant.refresh_token,
        "expiresIn": grant.expires_in.as_secs(),
        "user": grant.user,
    }))
}

fn invalid(invalid: Invalid) -> Problem {
    crate::app::Error::from(invalid).into()
}

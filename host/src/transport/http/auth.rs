//! `/api/auth`: login, refresh, logout, the current user and their password.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    auth::TokenPair,
    domain::{
        field::{Field, FieldKind, MAX_EMAIL_CHARS},
        input::{Input, Invalid},
        user::{MAX_PASSWORD_CHARS, NEW_PASSWORD, User, password},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, JsonBody, OptionalJsonBody, OriginExtractor},
        problem::Problem,
        schema::{
            member::creation,
            operation::{Callers, Operation},
            routes::ApiRoutes,
            shape::NamedSchema,
        },
    },
};

/// Password that is only compared.
const KNOWN_PASSWORD: FieldKind = FieldKind::Secret { min: 1, max: MAX_PASSWORD_CHARS };

const EMAIL: Field =
    Field::new("email", FieldKind::Text { min: 1, max: MAX_EMAIL_CHARS }, "E-mail address of the account.").required();
const PASSWORD: Field = Field::new("password", KNOWN_PASSWORD, "Password of the account.").required();
const LOGIN: &[&Field] = &[&EMAIL, &PASSWORD];

const REFRESH_TOKEN: Field =
    Field::new("refreshToken", FieldKind::Secret { min: 1, max: 1000 }, "The newest refresh token.").required();
const REFRESH: &[&Field] = &[&REFRESH_TOKEN];

const CURRENT_PASSWORD: Field = Field::new("currentPassword", KNOWN_PASSWORD, "Password as it is now.").required();
const NEW: Field = Field::new("newPassword", NEW_PASSWORD, "New password; control characters are refused.").required();
const PASSWORD_CHANGE: &[&Field] = &[&CURRENT_PASSWORD, &NEW];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Sessions")
        .route(
            Operation::post("/api/auth/login", "login", "Sign in")
                .access(Callers::Anyone)
                .body("Login")
                .answers(200, "A pair of tokens.", "Tokens")
                .refuses(&["invalid_credentials"]),
            login,
        )
        .route(
            Operation::post("/api/auth/refresh", "refresh", "Get the next pair of tokens")
                .about(
                    "A token can be used once. Used again within 15 seconds, it returns the same successor; later, it \
                     ends the session.",
                )
                .access(Callers::Anyone)
                .body("RefreshToken")
                .answers(200, "A pair of tokens.", "Tokens")
                .refuses(&["unauthenticated", "refresh_token_reused"]),
            refresh,
        )
        .route(
            Operation::post("/api/auth/logout", "logout", "Sign out")
                .access(Callers::Anyone)
                .body("RefreshToken")
                .answers_nothing("The session has ended, or there was none."),
            logout,
        )
        .route(
            Operation::post("/api/auth/logout-all", "logoutAll", "End every session of the caller")
                .optional_body("Nothing")
                .answers_nothing("Every session has ended."),
            logout_all,
        )
        .route(
            Operation::get("/api/auth/me", "readMe", "Read the caller's account").answers(200, "The account.", "User"),
            me,
        )
        .route(
            Operation::post("/api/auth/password", "changePassword", "Change the caller's password")
                .body("PasswordChange")
                .answers_nothing("The password is changed, and every other session has ended."),
            change_password,
        )
}

/// Components that only these routes use.
pub(crate) fn components() -> Vec<NamedSchema> {
    vec![
        ("Login", creation("Credentials.", LOGIN).into()),
        ("RefreshToken", creation("Refresh token.", REFRESH).into()),
        ("PasswordChange", creation("Change of the caller's password.", PASSWORD_CHANGE).into()),
        ("Nothing", creation("No members.", &[]).into()),
    ]
}

async fn login(
    State(api): State<ApiState>,
    OriginExtractor(origin): OriginExtractor,
    JsonBody(body): JsonBody,
) -> Result<Json<GrantedTokens>, Problem> {
    let (email, password) = Input::parse(body, LOGIN, |input| {
        let (email, password) = (input.text(&EMAIL), input.secret(&PASSWORD));
        email.zip(password)
    })
    .map_err(invalid)?;
    Ok(granted(api.auth.login(&email, password, &origin).await?))
}

async fn refresh(
    State(api): State<ApiState>,
    OriginExtractor(origin): OriginExtractor,
    JsonBody(body): JsonBody,
) -> Result<Json<GrantedTokens>, Problem> {
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
    Input::expect_empty(body).map_err(invalid)?;
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
    let (current, new) = Input::parse(body, PASSWORD_CHANGE, |input| {
        let (current, new) = (input.secret(&CURRENT_PASSWORD), password(input, &NEW));
        current.zip(new)
    })
    .map_err(invalid)?;
    api.auth.change_password(&caller.principal(), current, new).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refresh_token(body: Map<String, Value>) -> Result<String, Invalid> {
    Input::parse(body, REFRESH, |input| input.secret(&REFRESH_TOKEN))
}

/// Answer to a login and a refresh.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GrantedTokens {
    access_token: String,
    refresh_token: String,
    /// Seconds.
    expires_in: u64,
    user: User,
}

fn granted(grant: TokenPair) -> Json<GrantedTokens> {
    let TokenPair { access_token, refresh_token, expires_in, user } = grant;
    Json(GrantedTokens { access_token, refresh_token, expires_in: expires_in.as_secs(), user })
}

fn invalid(invalid: Invalid) -> Problem {
    crate::app::Error::from(invalid).into()
}

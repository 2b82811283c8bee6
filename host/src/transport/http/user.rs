//! `/api/users`: accounts, for administrators; possible owners of a lead, for everyone.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    app,
    domain::{
        field::{Field, FieldKind},
        id::UserId,
        policy::{Action, may},
        user::{NewUser, User, UserPatch},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, Id, IdempotencyHeader, JsonBody, PAGE, QueryParams, ResourceId},
        list::ListResponse,
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

const ASSIGNABLE: Field =
    Field::new("assignable", FieldKind::Flag, "True for the users who can own a lead, for every user.");
const LIST: &[&Field] = &[&ASSIGNABLE];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Users")
        .route(
            Operation::get("/api/users", "listUsers", "List accounts, or the users who can own a lead")
                .access(Callers::Restricted("For ADMIN; with `assignable=true`, for every user."))
                .query(LIST)
                .query(PAGE)
                .answers_any(200, "A page of accounts, or all assignable users.", &["UserPage", "AssignableUserPage"]),
            list,
        )
        .route(
            Operation::post("/api/users", "createUser", "Create an account")
                .access(Callers::ADMIN)
                .body("UserCreate")
                .idempotent()
                .answers(201, "The account.", "User")
                .with_headers(&["Location"]),
            create,
        )
        .route(
            Operation::get("/api/users/{id}", "readUser", "Read an account")
                .access(Callers::ADMIN)
                .answers(200, "The account.", "User")
                .refuses(&["user_not_found"]),
            read,
        )
        .route(
            Operation::patch("/api/users/{id}", "updateUser", "Change an account")
                .about("A new role, name or `active` reaches open sockets at once.")
                .access(Callers::ADMIN)
                .merge_patch("UserPatch")
                .answers(200, "The account.", "User")
                .refuses(&["user_not_found"]),
            update,
        )
}

impl ResourceId for UserId {
    const NOUN: &'static str = "user";
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    let page = params.parse(&[LIST, PAGE], |params| {
        if params.flag(&ASSIGNABLE)? == Some(true) {
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

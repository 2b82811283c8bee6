//! `/api/events/{seq}/explain`: which decisions were made about an event and by whom, for administrators.

use axum::{Json, extract::State, http::StatusCode};

use crate::{
    app,
    delivery::explain::{self, Explanation, Viewer},
    domain::{
        counter::Seq,
        field::{Field, FieldKind},
        policy::{Action, may},
        role::Role,
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, Id, QueryParams, ResourceId},
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

const ROLE: Field = Field::new("role", FieldKind::OneOf(&Role::NAMES), "Role whose view is explained.");
const USER_ID: Field = Field::new("userId", FieldKind::Id, "User whose view is explained.");
const VIEWER: &[&Field] = &[&ROLE, &USER_ID];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Events").route(
        Operation::get("/api/events/{seq}/explain", "explainEvent", "Explain who received an event, and why")
            .about("Takes exactly one of `role` and `userId`.")
            .access(Callers::ADMIN)
            .query(VIEWER)
            .answers(200, "The explanation.", "Explanation")
            .refuses(&["event_not_found", "user_not_found", "not_explained"]),
        explain,
    )
}

impl ResourceId for Seq {
    const NOUN: &'static str = "event";
}

async fn explain(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(seq): Id<Seq>,
    params: QueryParams,
) -> Result<Json<Explanation>, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let (role, user) = params.parse(&[VIEWER], |params| {
        let role = params.parsed(&ROLE, "ADMIN, MANAGER, SALES or VIEWER", |text| text.parse().ok())?;
        Ok((role, params.parsed(&USER_ID, "a user id", |text| text.parse().ok())?))
    })?;
    let viewer = match (role, user) {
        (Some(role), None) => Viewer::Role(role),
        (None, Some(user)) => Viewer::User(user),
        _ => return Err(app::Error::query("role", "exactly one of role and userId is required").into()),
    };
    api.app.check_event_in_scope(&caller.actor(), seq).await?;
    Ok(Json(api.explainer.explain(seq, &viewer).await?))
}

impl From<explain::Error> for Problem {
    fn from(error: explain::Error) -> Self {
        match error {
            explain::Error::Ahead { .. } | explain::Error::Gone(_) => {
                Self::new(StatusCode::NOT_FOUND, "event_not_found", error.to_string())
            }
            explain::Error::NoUser => app::Error::NotFound("user").into(),
            explain::Error::Unexplained { .. } => Self::new(StatusCode::CONFLICT, "not_explained", error.to_string()),
            explain::Error::Store(error) => app::Error::from(error).into(),
            error @ explain::Error::Broken(_) => app::Error::Internal(error.into()).into(),
        }
    }
}

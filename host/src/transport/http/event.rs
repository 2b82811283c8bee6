//! `/api/events/{seq}/explain`: which decisions were made about an event and by whom, for administrators.

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};

use crate::{
    app,
    delivery::explain::{self, Explanation, Viewer},
    domain::{
        counter::Seq,
        policy::{Action, may},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, Id, QueryParams, ResourceId},
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/api/events/{seq}/explain", get(explain))
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
    let (role, user) = params.parse(|params| {
        let role = params.parsed("role", "ADMIN, MANAGER, SALES or VIEWER", |text| text.parse().ok())?;
        Ok((role, params.parsed("userId", "a user id", |text| text.parse().ok())?))
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

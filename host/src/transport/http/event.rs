//! `/api/events/{seq}/explain`: who decided what about an event, for administrators.

use std::str::FromStr;

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};

use super::{
    Api,
    extract::{Caller, Id, Named, Params},
    problem::Problem,
};
use crate::{
    app,
    delivery::explain::{self, Explanation, Viewer},
    domain::policy::{Deed, may},
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/events/{seq}/explain", get(explain))
}

/// The number of an event.
struct Seq(u64);

impl FromStr for Seq {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Named for Seq {
    const NOUN: &'static str = "event";
}

async fn explain(
    State(api): State<Api>,
    caller: Caller,
    Id(Seq(seq)): Id<Seq>,
    mut params: Params,
) -> Result<Json<Explanation>, Problem> {
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    let role = params.parsed("role", "ADMIN, MANAGER, SALES or VIEWER", |text| text.parse().ok())?;
    let user = params.parsed("userId", "the id of a user", |text| text.parse().ok())?;
    params.finish()?;
    let viewer = match (role, user) {
        (Some(role), None) => Viewer::Role(role),
        (None, Some(user)) => Viewer::User(user),
        _ => return Err(app::Error::query("role", "give either role or userId").into()),
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

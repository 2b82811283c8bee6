//! `/api/presence`: the users who are online, or the viewers of one lead.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    app,
    domain::field::{Field, FieldKind},
    transport::{
        http::{
            api::ApiState,
            extract::{HttpCaller, QueryParams},
            problem::Problem,
            schema::{operation::Operation, routes::ApiRoutes},
        },
        socket::presence::viewers::Online,
    },
};

const LEAD_ID: Field = Field::new("leadId", FieldKind::Id, "Lead whose viewers are wanted.");
const LIST: &[&Field] = &[&LEAD_ID];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Presence").route(
        Operation::get("/api/presence", "readPresence", "List the users who are online, or the viewers of a lead")
            .query(LIST)
            .answers_any(
                200,
                "Users who are online; with `leadId`, the viewers of that lead.",
                &["OnlineUsers", "Viewers"],
            )
            .refuses(&["forbidden", "lead_not_found"])
            .asks_plugins(),
        list,
    )
}

/// Users who are online, by name.
#[derive(Serialize)]
struct OnlineUsers {
    users: Vec<Online>,
}

async fn list(
    State(api): State<ApiState>,
    HttpCaller(caller, _): HttpCaller,
    params: QueryParams,
) -> Result<Response, Problem> {
    let lead = params.parse(&[LIST], |params| params.one(&LEAD_ID))?;
    let Some(lead) = lead else {
        return Ok(Json(OnlineUsers { users: api.viewers.online() }).into_response());
    };
    // As in a path: a text that is not an id is answered like an unknown id.
    let lead = lead.parse().map_err(|_| app::Error::NotFound("lead"))?;
    Ok(Json(&*api.viewers.of(&caller.user, lead).await?).into_response())
}

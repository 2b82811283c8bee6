//! `/api/plugins/{name}/effects`: effects that a plugin wants and that are not done (pending or parked), for
//! administrators to see, retry and drop.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    app,
    domain::{
        field::{Field, FieldKind},
        policy::{Action, may},
    },
    store::effect::EffectState,
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, PAGE, QueryParams},
        list::ListResponse,
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

const STATE: Field = Field::new("state", FieldKind::OneOf(&["pending", "parked"]), "State; both if it is left out.");
const LIST: &[&Field] = &[&STATE];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Plugins")
        .route(
            Operation::get(
                "/api/plugins/{name}/effects",
                "listEffects",
                "List the open effects of a plugin, oldest first",
            )
            .access(Callers::ADMIN)
            .query(LIST)
            .query(PAGE)
            .answers(200, "A page of effects.", "EffectPage")
            .refuses(&["plugin_not_found"]),
            list,
        )
        .route(
            Operation::post("/api/plugins/{name}/effects/retry", "retryEffects", "Try all parked effects again")
                .access(Callers::ADMIN)
                .answers(200, "Number of parked effects that are tried again.", "Retried")
                .refuses(&["plugin_not_found"]),
            retry_all,
        )
        .route(
            Operation::delete("/api/plugins/{name}/effects/{id}", "dropEffect", "Drop an effect")
                .access(Callers::ADMIN)
                .answers_nothing("The effect is dropped.")
                .refuses(&["plugin_not_found", "effect_not_found"]),
            drop_one,
        )
        .route(
            Operation::post("/api/plugins/{name}/effects/{id}/retry", "retryEffect", "Try an effect again at once")
                .access(Callers::ADMIN)
                .answers(200, "The effect.", "Effect")
                .refuses(&["plugin_not_found", "effect_not_found", "invalid"]),
            retry,
        )
}

async fn list(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path(name): Path<String>,
    params: QueryParams,
) -> Result<ListResponse, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let open = |text: &str| EffectState::from_name(text).filter(|state| *state != EffectState::Done);
    let (state, page) = params
        .parse(&[LIST, PAGE], |params| Ok((params.parsed(&STATE, "pending or parked", open)?, params.page(&api)?)))?;
    Ok(ListResponse(api.app.effects(&caller.actor(), &name, state, &page).await?))
}

async fn retry_all(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path(name): Path<String>,
) -> Result<Json<RetriedEffects>, Problem> {
    Ok(Json(RetriedEffects { retried: api.app.retry_effects(&caller.principal(), &name).await? }))
}

async fn retry(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(api.app.retry_effect(&caller.principal(), &name, number(&id)?).await?))
}

async fn drop_one(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.app.drop_effect(&caller.principal(), &name, number(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Number of parked effects that are tried again.
#[derive(Serialize)]
struct RetriedEffects {
    retried: u64,
}

/// Parses the number of an effect; a text that is not a number is answered like an unknown number.
fn number(id: &str) -> Result<i64, app::Error> {
    id.parse().map_err(|_| app::Error::NotFound("effect"))
}

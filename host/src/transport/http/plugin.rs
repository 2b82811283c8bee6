//! `/api/plugins`: status of the plugins (loaded, refused or held, and why), and the rollout commands promote, drop and
//! roll back.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    app::{self, effect::FollowerProgress},
    domain::{
        counter::Generation,
        field::{Field, FieldKind},
        input::Input,
        policy::{Action, may},
    },
    plugin::{PluginStatus, RolloutCommand, RolloutError},
    store::audit::AuditKind,
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, OptionalJsonBody, QueryParams},
        problem::Problem,
        schema::{
            member::creation,
            operation::{Callers, Operation},
            routes::ApiRoutes,
            shape::NamedSchema,
        },
    },
};

const SHA256: FieldKind = FieldKind::Text { min: 1, max: 64 };
const HASH: Field = Field::new("hash", SHA256, "Hash that the held candidate must have.");
const FROM: Field = Field::new("from", SHA256, "Hash that the plugin in force must have.");

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Plugins")
        .route(
            Operation::get("/api/plugins", "listPlugins", "List the plugins, and what they hold back")
                .access(Callers::ADMIN)
                .answers(200, "The plugins.", "Plugins"),
            list,
        )
        .route(
            Operation::post("/api/plugins/{name}/promote", "promotePlugin", "Put a held candidate in force")
                .access(Callers::ADMIN)
                .optional_body("PluginPromotion")
                .answers(200, "The plugin.", "Plugin")
                .refuses(&["plugin_not_found", "nothing_held", "other_held", "not_in_force"]),
            promote,
        )
        .route(
            Operation::post(
                "/api/plugins/{name}/drop",
                "dropCandidate",
                "Forget a held candidate until its files change",
            )
            .access(Callers::ADMIN)
            .optional_body("Nothing")
            .answers(200, "The plugin.", "Plugin")
            .refuses(&["plugin_not_found", "nothing_held"]),
            drop_held,
        )
        .route(
            Operation::post("/api/plugins/{name}/rollback", "rollBackPlugin", "Bring the previous generation back")
                .access(Callers::ADMIN)
                .optional_body("PluginRollback")
                .answers(200, "The plugin.", "Plugin")
                .refuses(&["plugin_not_found", "nothing_before", "other_in_force", "not_in_force"]),
            roll_back,
        )
}

/// Components that only these routes use.
pub(crate) fn components() -> Vec<NamedSchema> {
    vec![
        ("PluginPromotion", creation("Promotion of the held candidate.", &[&HASH]).into()),
        ("PluginRollback", creation("Rollback of the plugin in force.", &[&FROM]).into()),
    ]
}

/// Plugins, and what they hold back.
#[derive(Serialize)]
struct PluginList {
    generation: Generation,
    items: Vec<ListedPlugin>,
    holds: Vec<Value>,
}

#[derive(Serialize)]
struct ListedPlugin {
    #[serde(flatten)]
    status: PluginStatus,
    effects: Option<FollowerProgress>,
}

async fn list(
    State(api): State<ApiState>,
    caller: HttpCaller,
    params: QueryParams,
) -> Result<Json<PluginList>, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    params.parse(&[], |_| Ok(()))?;
    let followers = api.app.follower_stats().await?;
    let items = api.plugins.status().into_iter().map(|status| {
        let effects = followers.get(status.name.as_str()).map(FollowerProgress::from);
        ListedPlugin { status, effects }
    });
    let (items, holds) = (items.collect(), api.app.holds(&caller.actor()).await?);
    Ok(Json(PluginList { generation: api.plugins.generation(), items, holds }))
}

/// Promotes the held version. `hash`, if given, has to be that of the held version: what the caller looked at may have
/// been replaced meanwhile.
async fn promote(
    state: State<ApiState>,
    name: Path<String>,
    caller: HttpCaller,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<PluginStatus>, Problem> {
    let hash = hash(&HASH, &caller, body)?;
    shift(state, name, &caller, RolloutCommand::Promote { hash }).await
}

async fn drop_held(
    state: State<ApiState>,
    name: Path<String>,
    caller: HttpCaller,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<PluginStatus>, Problem> {
    Input::expect_empty(body).map_err(app::Error::from)?;
    shift(state, name, &caller, RolloutCommand::Drop).await
}

/// Rolls back. `from`, if given, has to be the hash in force: a request that is repeated does not roll forward again.
async fn roll_back(
    state: State<ApiState>,
    name: Path<String>,
    caller: HttpCaller,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<PluginStatus>, Problem> {
    let from = hash(&FROM, &caller, body)?;
    shift(state, name, &caller, RolloutCommand::RollBack { from }).await
}

/// Reads the one field that an administrator may send.
fn hash(field: &Field, caller: &HttpCaller, body: Map<String, Value>) -> Result<Option<String>, app::Error> {
    may(&caller.actor(), Action::Administer)?;
    Ok(Input::parse(body, &[field], |input| Some(input.text(field)))?)
}

async fn shift(
    State(api): State<ApiState>,
    Path(name): Path<String>,
    caller: &HttpCaller,
    shift: RolloutCommand,
) -> Result<Json<PluginStatus>, Problem> {
    let caller = caller.principal();
    may(&caller, Action::Administer).map_err(app::Error::from)?;
    let (kind, hash) = match &shift {
        RolloutCommand::Promote { hash } => (AuditKind::PluginPromoted, hash.clone()),
        RolloutCommand::Drop => (AuditKind::PluginDropped, None),
        RolloutCommand::RollBack { from } => (AuditKind::PluginRolledBack, from.clone()),
    };
    let detail = hash.map(|hash| ("hash".to_owned(), Value::from(hash))).into_iter().collect();
    // Judges the caller again: the body was awaited since the caller was authenticated.
    api.app.order(&caller, kind, &name, detail).await?;
    let (app, ordered) = (api.app.clone(), name.clone());
    // Compiling a plugin takes a while, and `shift` blocks until the thread that does so is done.
    let shifted = tokio::task::spawn_blocking(move || api.plugins.shift(&name, shift)).await;
    let shifted = shifted.map_err(|panicked| Problem::from(app::Error::Internal(panicked.into())))?;
    if let Err(error) = &shifted
        && let Err(error) = app.order_failed(&caller, kind, &ordered, &error.to_string()).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot record a failed rollout command in the audit table"
        );
    }
    shifted.map(Json).map_err(|error| {
        let problem = |status, code| Problem::new(status, code, error.to_string());
        match error {
            RolloutError::Unknown => problem(StatusCode::NOT_FOUND, "plugin_not_found"),
            RolloutError::NothingHeld => problem(StatusCode::CONFLICT, "nothing_held"),
            RolloutError::OtherHeld(_) => problem(StatusCode::CONFLICT, "other_held"),
            RolloutError::NothingBefore | RolloutError::NotStored(_) => problem(StatusCode::CONFLICT, "nothing_before"),
            RolloutError::OtherInForce(_) => problem(StatusCode::CONFLICT, "other_in_force"),
            RolloutError::Useless(_) | RolloutError::NotInForce(_) => problem(StatusCode::CONFLICT, "not_in_force"),
            RolloutError::Failed(error) => app::Error::Internal(error.into()).into(),
        }
    })
}

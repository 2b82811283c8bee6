//! `/api/leads`: lists with filters, one lead and its history, and the commands that change leads.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::Value;

use crate::{
    app::{self, outcome::CommandOutcome},
    domain::{
        actor::Actor,
        command::{Command, new_owner},
        id::LeadId,
        input::Input,
        lead::{LeadFields, LeadStatus},
        time::Timestamp,
    },
    store::lead::{LeadFilter, LeadSort, LeadSortKey, OwnerFilter},
    transport::http::{
        api::ApiState,
        extract::{
            HttpCaller, Id, IdempotencyHeader, IfMatch, JsonBody, OptionalJsonBody, QueryParams, QueryReader,
            ResourceId,
        },
        list::ListResponse,
        problem::Problem,
    },
};

/// Maximum length of a search text, and of the value of any filter.
const MAX_SEARCH_CHARS: usize = 200;

const TIME_OR_DATE: &str = "an RFC 3339 time or date between 1970 and 9999";

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/leads", get(list).post(create))
        .route("/api/leads/{id}", get(read).patch(update).delete(delete))
        .route("/api/leads/{id}/restore", post(restore))
        .route("/api/leads/{id}/assign", post(assign))
        .route("/api/leads/{id}/history", get(history))
}

impl ResourceId for LeadId {
    const NOUN: &'static str = "lead";
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    let (filter, page) = params.parse(|params| Ok((filter(params)?, params.page(&api)?)))?;
    Ok(ListResponse(api.app.leads(&caller.actor(), &filter, &page).await?))
}

async fn create(
    State(api): State<ApiState>,
    caller: HttpCaller,
    key: IdempotencyHeader,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let fields = LeadFields::parse(body).map_err(app::Error::from)?;
    let outcome = api.app.execute(&caller.principal(), Command::CreateLead { fields }, key.0).await?;
    Ok(answer(StatusCode::CREATED, outcome))
}

async fn read(State(api): State<ApiState>, caller: HttpCaller, Id(id): Id<LeadId>) -> Result<Response, Problem> {
    let seen = api.app.lead(&caller.actor(), id).await?;
    Ok(with_version(StatusCode::OK, seen.version, seen.lead))
}

async fn update(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    if_match: IfMatch,
    JsonBody(patch): JsonBody,
) -> Result<Response, Problem> {
    walk_step!("update");
    let actor = caller.principal();
    let version = expected_version(&api, &actor, lead, if_match).await?;
    let outcome = api.app.execute(&actor, Command::UpdateLead { lead, patch, version }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn delete(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    if_match: IfMatch,
    params: QueryParams,
) -> Result<Response, Problem> {
    let erase = params.parse(|params| params.parsed("erase", "true or false", |text| text.parse::<bool>().ok()))?;
    let actor = caller.actor();
    if erase == Some(true) {
        return Ok(Json(api.app.erase_lead(&caller.principal(), lead).await?).into_response());
    }
    let version = expected_version(&api, &actor, lead, if_match).await?;
    let outcome = api.app.execute(&caller.principal(), Command::DeleteLead { lead, version }, None).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn restore(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    key: IdempotencyHeader,
    if_match: IfMatch,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Response, Problem> {
    Input::expect_empty(body).map_err(app::Error::from)?;
    let actor = caller.actor();
    let version = match if_match {
        IfMatch::Any => None,
        IfMatch::Versions(versions) => Some(match versions[..] {
            [version] => version,
            _ => one_of(&versions, api.app.restorable_version(&actor, lead).await?),
        }),
    };
    let outcome = api.app.execute(&caller.principal(), Command::RestoreLead { lead, version }, key.0).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn assign(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(lead): Id<LeadId>,
    key: IdempotencyHeader,
    if_match: IfMatch,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let owner = new_owner(body).map_err(app::Error::from)?;
    let actor = caller.actor();
    let version = expected_version(&api, &actor, lead, if_match).await?;
    let outcome = api.app.execute(&caller.principal(), Command::AssignLead { lead, owner, version }, key.0).await?;
    Ok(answer(StatusCode::OK, outcome))
}

async fn history(
    State(api): State<ApiState>,
    caller: HttpCaller,
    Id(id): Id<LeadId>,
    params: QueryParams,
) -> Result<ListResponse, Problem> {
    let page = params.parse(|params| params.page(&api))?;
    Ok(ListResponse(api.app.history(&caller.actor(), id, &page).await?))
}

/// Turns the outcome of a command into a response; `status` is for a resource that still exists.
pub(crate) fn answer(status: StatusCode, outcome: CommandOutcome) -> Response {
    let (location, mut response) = match outcome {
        CommandOutcome::Lead { id, version, lead } => (format!("/api/leads/{id}"), with_version(status, version, lead)),
        CommandOutcome::Activity { id, activity } => {
            (format!("/api/activities/{id}"), (status, Json(activity)).into_response())
        }
        CommandOutcome::Deleted => return StatusCode::NO_CONTENT.into_response(),
    };
    if status == StatusCode::CREATED {
        let location = HeaderValue::from_str(&location).expect("ids are visible ASCII");
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn with_version(status: StatusCode, version: i64, lead: Value) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes are visible ASCII");
    (status, [(header::ETAG, tag)], Json(lead)).into_response()
}

/// Returns the one version that a change may build on, if `If-Match` restricts it.
async fn expected_version(
    api: &ApiState,
    actor: &Actor,
    lead: LeadId,
    allowed: IfMatch,
) -> Result<Option<i64>, Problem> {
    let IfMatch::Versions(versions) = allowed else { return Ok(None) };
    if let [version] = versions[..] {
        return Ok(Some(version));
    }
    Ok(Some(one_of(&versions, api.app.lead_version(actor, lead).await?)))
}

/// Returns the current version if it is among several that are allowed, else 0, at which no lead is.
fn one_of(versions: &[i64], current: i64) -> i64 {
    if versions.contains(&current) { current } else { 0 }
}

fn filter(params: &mut QueryReader) -> Result<LeadFilter, app::Error> {
    let mut statuses = Vec::new();
    let given = params.all("status");
    for name in given.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        let status = LeadStatus::from_name(name).ok_or_else(|| {
            app::Error::query(
                "status",
                format!("must be one of {}", LeadStatus::ALL.map(LeadStatus::as_str).join(", ")),
            )
        })?;
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    let short = |text: &str| (text.chars().count() <= MAX_SEARCH_CHARS).then(|| text.to_owned());
    let short_text = format!("at most {MAX_SEARCH_CHARS} characters long");
    Ok(LeadFilter {
        deleted: params.parsed("deleted", "true or false", |text| text.parse().ok())?.unwrap_or(false),
        statuses,
        owner: params.parsed("ownerId", "a user id or none", |text| match text {
            "none" => Some(OwnerFilter::Unassigned),
            id => id.parse().ok().map(OwnerFilter::User),
        })?,
        source: params.parsed("source", &short_text, short)?,
        created_after: params.parsed("createdAfter", TIME_OR_DATE, time_or_date)?,
        created_before: params.parsed("createdBefore", TIME_OR_DATE, time_or_date)?,
        text: params
            .parsed("q", &short_text, short)?
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty()),
        sort: params
            .parsed("sort", &sortable(), sort)?
            .unwrap_or(LeadSort { key: LeadSortKey::UpdatedAt, descending: true }),
    })
}

/// Parses a time or a date. A date alone is the moment at which it begins, in UTC.
fn time_or_date(text: &str) -> Option<Timestamp> {
    let time = match text.len() {
        10 => format!("{text}T00:00:00Z").parse(),
        _ => text.parse(),
    };
    time.ok().filter(|time: &Timestamp| time.is_storable())
}

fn sort(text: &str) -> Option<LeadSort> {
    let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
    let key = LeadSortKey::ALL.into_iter().find(|key| key.field() == name)?;
    Some(LeadSort { key, descending })
}

fn sortable() -> String {
    format!("one of {}, with a leading - for descending order", LeadSortKey::ALL.map(LeadSortKey::field).join(", "))
}

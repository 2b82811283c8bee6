//! `/api/leads`: lists with filters, one lead and its history, and the commands that change leads.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use crate::{
    app::{self, outcome::CommandOutcome},
    domain::{
        actor::Actor,
        command::{Command, new_owner},
        field::{Field, FieldKind},
        id::LeadId,
        input::Input,
        lead::{LeadFields, LeadStatus},
        time::Timestamp,
    },
    store::lead_filter::{LeadFilter, LeadSort, LeadSortKey, OwnerFilter},
    transport::http::{
        api::ApiState,
        extract::{
            HttpCaller, Id, IdempotencyHeader, IfMatch, JsonBody, OptionalJsonBody, PAGE, QueryParams, QueryReader,
            ResourceId,
        },
        list::ListResponse,
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

/// Header of the answer to a command: the last event that the command wrote, or the head of the log if it wrote none.
pub(crate) const LEADWIRE_SEQ: HeaderName = HeaderName::from_static("leadwire-seq");

/// Maximum length of a search text, and of the value of any filter.
const MAX_SEARCH_CHARS: usize = 200;

const TIME_OR_DATE: &str = "an RFC 3339 time or date between 1970 and 9999";

const DELETED: Field = Field::new("deleted", FieldKind::Flag, "True for deleted leads alone; for ADMIN and MANAGER.");
const STATUS: Field = Field::new("status", FieldKind::ManyOf(&LeadStatus::NAMES), "Statuses; may repeat.");
const OWNER_ID: Field = Field::new("ownerId", FieldKind::IdOrNone, "Owner, or `none` for leads without one.");
const SOURCE: Field = Field::text("source", MAX_SEARCH_CHARS, "Source of the lead.");
const CREATED_AFTER: Field = Field::new("createdAfter", FieldKind::TimeOrDate, "Only leads created later than this.");
const CREATED_BEFORE: Field =
    Field::new("createdBefore", FieldKind::TimeOrDate, "Only leads created earlier than this.");
const SEARCH: Field =
    Field::text("q", MAX_SEARCH_CHARS, "Text in the title, contact, company, e-mail, phone or description.");
const SORT: Field =
    Field::new("sort", FieldKind::SortBy(&LeadSortKey::NAMES), "Member to sort by; `-` in front sorts downwards.")
        .default("\"-updatedAt\"");
const LIST: &[&Field] = &[&DELETED, &STATUS, &OWNER_ID, &SOURCE, &CREATED_AFTER, &CREATED_BEFORE, &SEARCH, &SORT];

const ERASE: Field = Field::new("erase", FieldKind::Flag, "True to erase the lead for good; for ADMIN.");
const DELETION: &[&Field] = &[&ERASE];

const OWN: Callers = Callers::Restricted("For ADMIN and MANAGER; for SALES, leads that it owns or that nobody owns.");
const LEADERS: Callers = Callers::Restricted("For ADMIN and MANAGER.");

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Leads")
        .route(
            Operation::get("/api/leads", "listLeads", "List leads")
                .query(LIST)
                .query(PAGE)
                .answers(200, "A page of leads.", "LeadPage")
                .refuses(&["forbidden", "field_hidden"])
                .asks_plugins(),
            list,
        )
        .route(
            Operation::post("/api/leads", "createLead", "Create a lead")
                .access(Callers::Restricted("Not for VIEWER."))
                .body("LeadCreate")
                .idempotent()
                .answers(201, "The lead.", "Lead")
                .with_headers(&["Location", "ETag"])
                .commands(),
            create,
        )
        .route(
            Operation::get("/api/leads/{id}", "readLead", "Read a lead")
                .answers(200, "The lead.", "Lead")
                .with_headers(&["ETag"])
                .refuses(&["lead_not_found"])
                .asks_plugins(),
            read,
        )
        .route(
            Operation::patch("/api/leads/{id}", "updateLead", "Change a lead")
                .about("A patch that changes nothing writes nothing, and keeps the version.")
                .access(OWN)
                .merge_patch("LeadPatch")
                .if_match()
                .answers(200, "The lead.", "Lead")
                .with_headers(&["ETag"])
                .refuses(&["lead_not_found"])
                .commands(),
            update,
        )
        .route(
            Operation::delete("/api/leads/{id}", "deleteLead", "Delete a lead, or erase it")
                .access(LEADERS)
                .query(DELETION)
                .if_match()
                .answers_nothing("The lead is hidden but kept.")
                .refuses(&["lead_not_found"])
                .commands()
                .answers(200, "The lead is erased.", "Erasure"),
            delete,
        )
        .route(
            Operation::post("/api/leads/{id}/restore", "restoreLead", "Restore a deleted lead")
                .access(LEADERS)
                .optional_body("Nothing")
                .idempotent()
                .if_match()
                .answers(200, "The lead.", "Lead")
                .with_headers(&["ETag"])
                .refuses(&["lead_not_found"])
                .commands(),
            restore,
        )
        .route(
            Operation::post("/api/leads/{id}/assign", "assignLead", "Give a lead to another owner, or to nobody")
                .access(Callers::Restricted("For ADMIN and MANAGER; SALES may take what nobody owns."))
                .body("LeadAssignment")
                .idempotent()
                .if_match()
                .answers(200, "The lead.", "Lead")
                .with_headers(&["ETag"])
                .refuses(&["lead_not_found"])
                .commands(),
            assign,
        )
        .route(
            Operation::get("/api/leads/{id}/history", "listLeadChanges", "List the changes of a lead, newest first")
                .query(PAGE)
                .answers(200, "A page of changes.", "LeadChangePage")
                .refuses(&["lead_not_found"])
                .asks_plugins(),
            history,
        )
}

impl ResourceId for LeadId {
    const NOUN: &'static str = "lead";
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    let (filter, page) = params.parse(&[LIST, PAGE], |params| Ok((filter(params)?, params.page(&api)?)))?;
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
    let erase = params.parse(&[DELETION], |params| params.flag(&ERASE))?;
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
    let page = params.parse(&[PAGE], |params| params.page(&api))?;
    Ok(ListResponse(api.app.history(&caller.actor(), id, &page).await?))
}

/// Turns the outcome of a command into a response; `status` is for a resource that still exists.
pub(crate) fn answer(status: StatusCode, outcome: CommandOutcome) -> Response {
    let seq = outcome.seq();
    let (location, mut response) = match outcome {
        CommandOutcome::Lead { id, version, lead, .. } => {
            (Some(format!("/api/leads/{id}")), with_version(status, version, lead))
        }
        CommandOutcome::Activity { id, activity, .. } => {
            (Some(format!("/api/activities/{id}")), (status, Json(activity)).into_response())
        }
        CommandOutcome::Deleted { .. } => (None, StatusCode::NO_CONTENT.into_response()),
    };
    response.headers_mut().insert(LEADWIRE_SEQ, seq.0.into());
    if let Some(location) = location.filter(|_| status == StatusCode::CREATED) {
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
    Ok(LeadFilter {
        deleted: params.flag(&DELETED)?.unwrap_or(false),
        statuses: params.many_of(&STATUS, LeadStatus::from_name)?,
        owner: params.parsed(&OWNER_ID, "a user id or none", |text| match text {
            "none" => Some(OwnerFilter::Unassigned),
            id => id.parse().ok().map(OwnerFilter::User),
        })?,
        source: params.text(&SOURCE)?,
        created_after: params.parsed(&CREATED_AFTER, TIME_OR_DATE, time_or_date)?,
        created_before: params.parsed(&CREATED_BEFORE, TIME_OR_DATE, time_or_date)?,
        text: params.text(&SEARCH)?.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        sort: params
            .parsed(&SORT, &sortable(), sort)?
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
    let key = LeadSortKey::ALL.into_iter().find(|key| key.as_str() == name)?;
    Some(LeadSort { key, descending })
}

fn sortable() -> String {
    format!("one of {}, with a leading - for descending order", LeadSortKey::NAMES.join(", "))
}

//! `/api/audit`: audit trail for administrators: who did what to accounts, sessions and plugins, and who failed to sign
//! in.

use axum::extract::State;

use crate::{
    app,
    domain::{
        field::{Field, FieldKind},
        id::UserId,
        policy::{Action, may},
        time::Timestamp,
    },
    store::{
        self,
        audit::{AuditFilter, AuditKind},
    },
    transport::http::{
        api::ApiState,
        extract::{HttpCaller, PAGE, QueryParams, QueryReader},
        list::ListResponse,
        problem::Problem,
        schema::{
            operation::{Callers, Operation},
            routes::ApiRoutes,
        },
    },
};

const KIND: Field = Field::new("kind", FieldKind::ManyOf(&AuditKind::NAMES), "Kinds; may repeat.");
const USER: Field = Field::new("user", FieldKind::Id, "User who did it, or to whom it was done.");
const SINCE: Field = Field::new("since", FieldKind::Time, "Only entries from this time on.");
const LIST: &[&Field] = &[&KIND, &USER, &SINCE];

pub(crate) fn routes() -> ApiRoutes {
    ApiRoutes::tagged("Audit").route(
        Operation::get("/api/audit", "listAuditEntries", "List the audit table, newest first")
            .access(Callers::ADMIN)
            .query(LIST)
            .query(PAGE)
            .answers(200, "A page of entries.", "AuditEntryPage"),
        list,
    )
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let (filter, page) = params.parse(&[LIST, PAGE], |params| Ok((filter(params)?, params.page(&api)?)))?;
    // Includes entries of the last second, which are not written yet.
    if let Err(error) = api.auth.audit_log().flush().await {
        report(&error);
    }
    Ok(ListResponse(api.app.audit_rows(&caller.actor(), &filter, &page).await?))
}

fn filter(params: &mut QueryReader) -> Result<AuditFilter, app::Error> {
    let kinds = params.many_of(&KIND, AuditKind::from_name)?;
    let mut filter =
        AuditFilter { kinds: kinds.into_iter().map(AuditKind::as_str).collect(), ..AuditFilter::default() };
    let user = |text: &str| text.parse::<UserId>().map(|id| id.to_string()).ok();
    filter.user = params.parsed(&USER, "a user id", user)?;
    let time = |text: &str| text.parse::<Timestamp>().ok().filter(|time| time.is_storable());
    filter.since = params.parsed(&SINCE, "an RFC 3339 time between 1970 and 9999", time)?;
    Ok(filter)
}

fn report(error: &store::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot write the audit table before it is read");
}

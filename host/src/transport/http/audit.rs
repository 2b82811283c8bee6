//! `/api/audit`: audit trail for administrators: who did what to accounts, sessions and plugins, and who failed to sign
//! in.

use axum::{Router, extract::State, routing::get};

use crate::{
    app,
    domain::{
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
        extract::{HttpCaller, QueryParams, QueryReader},
        list::ListResponse,
        problem::Problem,
    },
};

pub(crate) fn routes() -> Router<ApiState> {
    Router::new().route("/api/audit", get(list))
}

async fn list(State(api): State<ApiState>, caller: HttpCaller, params: QueryParams) -> Result<ListResponse, Problem> {
    may(&caller.actor(), Action::Administer).map_err(app::Error::from)?;
    let (filter, page) = params.parse(|params| Ok((filter(params)?, params.page(&api)?)))?;
    // Includes entries of the last second, which are not written yet.
    if let Err(error) = api.auth.audit_log().flush().await {
        report(&error);
    }
    Ok(ListResponse(api.app.audit_rows(&caller.actor(), &filter, &page).await?))
}

fn filter(params: &mut QueryReader) -> Result<AuditFilter, app::Error> {
    let mut filter = AuditFilter::default();
    for name in params.all("kind") {
        let names = || AuditKind::ALL.map(AuditKind::as_str).join(", ");
        let kind = AuditKind::from_name(&name);
        let kind = kind.ok_or_else(|| app::Error::query("kind", format!("must be one of {}", names())))?;
        filter.kinds.push(kind.as_str());
    }
    let user = |text: &str| text.parse::<UserId>().map(|id| id.to_string()).ok();
    filter.user = params.parsed("user", "a user id", user)?;
    let time = |text: &str| text.parse::<Timestamp>().ok().filter(|time| time.is_storable());
    filter.since = params.parsed("since", "an RFC 3339 time between 1970 and 9999", time)?;
    Ok(filter)
}

fn report(error: &store::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot write the audit table before it is read");
}

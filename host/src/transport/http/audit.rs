//! `/api/audit`: who did what to accounts, sessions and plugins, and who failed to sign in, for administrators.

use axum::{Router, extract::State, routing::get};

use super::{
    Api,
    extract::{Caller, Params},
    list::List,
    problem::Problem,
};
use crate::{
    app,
    domain::{
        id::UserId,
        policy::{Deed, may},
        time::Timestamp,
    },
    store::{self, audit::AuditFilter, audit::Kind},
};

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/audit", get(list))
}

async fn list(State(api): State<Api>, caller: Caller, mut params: Params) -> Result<List, Problem> {
    may(&caller.actor(), Deed::Administer).map_err(app::Error::from)?;
    let mut filter = AuditFilter::default();
    for name in params.all("kind") {
        let names = || Kind::ALL.map(Kind::as_str).join(", ");
        let kind = Kind::from_name(&name);
        let kind = kind.ok_or_else(|| app::Error::query("kind", format!("must be one of {}", names())))?;
        filter.kinds.push(kind.as_str());
    }
    let user = |text: &str| text.parse::<UserId>().map(|id| id.to_string()).ok();
    filter.user = params.parsed("user", "the id of a user", user)?;
    let time = |text: &str| text.parse::<Timestamp>().ok().filter(|time| time.is_storable());
    filter.since = params.parsed("since", "an RFC 3339 time between 1970 and 9999", time)?;
    let page = params.page(&api)?;
    params.finish()?;
    // What was noted within the last second as well.
    if let Err(error) = api.auth.journal().flush().await {
        report(&error);
    }
    Ok(List(api.app.audit_rows(&caller.actor(), &filter, &page).await?))
}

fn report(error: &store::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "cannot write the audit table before it is read");
}

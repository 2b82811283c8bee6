//! Shapes of what administrators and machines read: plugins, effects, the audit table, explanations, problems, health.

use serde_json::json;

use crate::{
    store::audit::AuditKind,
    transport::http::schema::{
        crm::page,
        shape::{
            NamedSchema, ObjectShape, any, either, flag, free, id, list, map, nullable, open_names, reference, text,
            time, whole,
        },
    },
};

/// Components, by name.
pub(crate) fn components() -> Vec<NamedSchema> {
    let mut components = plugins();
    components.extend(trails());
    components.extend(machines());
    components
}

fn plugins() -> Vec<NamedSchema> {
    let states = ["active", "shadow", "failing", "refused", "disabled", "missing"];
    let plugin = ObjectShape::new("Plugin: its state, what it may do, and what it did.")
        .with("name", text())
        .with("file", text())
        .with("state", open_names(&states, "State of the plugin."))
        .maybe("reason", text().description(Some("Why it is not active, or why the file in the directory is not.")))
        .maybe("candidate", free().description(Some("Artifact in the directory, where it is not the active one.")))
        .with("version", nullable(text()))
        .with("hash", nullable(text().description(Some("SHA-256 of the file, in hexadecimal."))))
        .maybe("previous", free().description(Some("Generation that a rollback would bring back.")))
        .maybe("rolledBackFrom", text())
        .with("generation", nullable(whole()))
        .with("hooks", list(text()))
        .maybe("asked", free())
        .maybe("granted", free())
        .with("mode", open_names(&["active", "shadow"], "Mode according to its settings."))
        .maybe("shadow", free().description(Some("Report of a plugin in shadow mode: what it would have done.")))
        .with("holds", flag().description(Some("True if something is denied or held back because of its state.")))
        .with("counts", map(whole()))
        .maybe("breaker", free())
        .maybe("instances", map(whole()))
        .maybe("limits", map(whole()))
        .with("metrics", map(any()))
        .maybe("dropped", map(whole()))
        .maybe("lastFault", nullable(free()))
        .maybe("trial", free())
        .maybe("effects", nullable(free().description(Some("Its place in the log, and its open effects."))));
    let hold = ObjectShape::new("Lead that is withheld from a role, because a plugin gives no verdict.")
        .with("role", reference("Role"))
        .with("leadId", id())
        .with("all", flag())
        .with("firstSeq", whole())
        .with("plugin", text())
        .with("reason", text())
        .with("since", time());
    let plugins = ObjectShape::new("Plugins, and what they hold back.")
        .with("generation", whole())
        .with("items", list(reference("Plugin")))
        .with("holds", list(reference("Hold")));
    let effect = ObjectShape::new("Something that a plugin wants done, and that is not done yet.")
        .with("id", text())
        .with("name", text())
        .with("input", free())
        .with("occasion", text().description(Some("Event or reminder that the plugin answered.")))
        .with("index", nullable(whole().description(Some("Position in that answer; null for a gap in the log."))))
        .with("chain", list(text()).description(Some("Plugins that led to it.")))
        .with("state", open_names(&["pending", "parked"], "`parked`: it failed too often, and waits for you."))
        .with("attempts", whole())
        .with("reason", nullable(text().description(Some("Why the last attempt failed."))))
        .with("happenedAt", time())
        .with("dueAt", nullable(time()))
        .with("createdAt", time());
    vec![
        ("Plugin", plugin.into()),
        ("Hold", hold.into()),
        ("Plugins", plugins.into()),
        ("Effect", effect.into()),
        ("EffectPage", page("Effect")),
        ("Retried", ObjectShape::new("Parked effects that are tried again.").with("retried", whole()).into()),
    ]
}

fn trails() -> Vec<NamedSchema> {
    let kinds = AuditKind::ALL.map(AuditKind::as_str);
    let entry = ObjectShape::new("Entry of the audit table. Members that are not known are null.")
        .with("id", text())
        .with("at", time())
        .with("lastAt", time().description(Some("Time of the last repetition.")))
        .with("count", whole().description(Some("Number of repetitions that were counted together.")))
        .with("kind", open_names(&kinds, "What happened."))
        .with("actor", nullable(text().description(Some("Id of a user, or `operator` for the command line."))))
        .with("subject", nullable(text().description(Some("Id of a user or a lead, or the name of a plugin."))))
        .with("address", nullable(text()))
        .with("requestId", nullable(text()))
        .with("detail", any());
    let audience = || either([text(), free()]);
    let outcomes = ["sent", "revoked", "held", "withheld", "internal", "reset"];
    let explanation = ObjectShape::new("What a role or a user received of an event, and what decided that.")
        .with("seq", whole())
        .with("name", text())
        .with("at", time())
        .with("leadId", nullable(id()))
        .with("rooms", list(text()))
        .with("role", reference("Role"))
        .maybe("userId", id())
        .with("generation", whole())
        .with("inUseSince", whole())
        .with("changedSince", flag())
        .with("plugins", list(free()))
        .with("steps", list(free()))
        .with("outcome", open_names(&outcomes, "What became of the event."))
        .with("audience", audience())
        .with("payload", nullable(free()))
        .maybe("revoked", free())
        .with("exact", flag())
        .with("notes", list(text()))
        .maybe("replay", free());
    let erased = ObjectShape::new("Result of an erasure: what was erased, and what could not be reached.")
        .with("erased", map(whole()))
        .maybe("account", free())
        .with("mentions", list(free()))
        .with("remains", list(text()));
    vec![
        ("AuditEntry", entry.into()),
        ("AuditEntryPage", page("AuditEntry")),
        ("Explanation", explanation.into()),
        ("Erasure", erased.into()),
    ]
}

fn machines() -> Vec<NamedSchema> {
    let field_error = ObjectShape::new("Problem with one field.")
        .with("field", text().description(Some("Name of the member; for nested data, a path with dots.")))
        .with("code", text())
        .with("message", text().description(Some("Message for people.")));
    let problem = ObjectShape::new("Problem details (RFC 9457). Base your logic on `code`.")
        .with("type", text())
        .with("title", text())
        .with("status", whole())
        .with("detail", text().description(Some("Message for people.")))
        .with("code", text())
        .with("requestId", text().description(Some("`X-Request-Id` of the response.")))
        .maybe("errors", list(reference("FieldError")))
        .maybe("current", reference("Lead"))
        .example(json!({
            "type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "title is required",
            "code": "invalid", "requestId": "0190a8c3-0000-7000-8000-000000000001",
            "errors": [{"field": "title", "code": "required", "message": "title is required"}]
        }));
    let readiness = ObjectShape::new("Readiness of the server, check by check.")
        .with("status", text())
        .with("checks", map(text()))
        .maybe("reasons", map(text().description(Some("Code of the reason, by check."))));
    let about = ObjectShape::new("What this server is.")
        .with("name", text())
        .with("version", text().description(Some("Version of the program.")))
        .with("contract", text().description(Some("Version of this contract: major.minor.")))
        .with("mode", open_names(&["production", "demo"], "Mode that the server runs in."))
        .with("features", list(text()).description(Some("Names of what this server can do; expect unknown ones.")));
    vec![
        ("FieldError", field_error.into()),
        ("Problem", problem.into()),
        ("Health", ObjectShape::new("The process is alive.").with("status", text()).into()),
        ("Readiness", readiness.into()),
        ("About", about.into()),
        ("Document", free().description(Some("Document that describes the contract.")).into()),
    ]
}

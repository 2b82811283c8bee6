//! Error codes of the HTTP interface, with their statuses. A refusal with another pair is a fault.

/// Error code.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) about: &'static str,
}

const fn code(status: u16, name: &'static str, about: &'static str) -> Code {
    Code { name, status, about }
}

/// Code that stands for those which plugins make up.
pub(crate) const OF_PLUGIN: &str = "plugin's own";

/// Every code that an operation refuses with, but those of plugins.
pub(crate) const CODES: [Code; 33] = [
    code(400, "malformed", "The body is not a JSON object, or a header cannot be read."),
    code(
        400,
        "invalid_query",
        "A query parameter is unknown or has an invalid value, or the cursor is of another list.",
    ),
    code(401, "unauthenticated", "The token is missing, invalid or expired."),
    code(401, "invalid_credentials", "The e-mail address or the password is wrong."),
    code(401, "refresh_token_reused", "The refresh token was used before; its session has ended."),
    code(403, "forbidden", "You may see it, but not do this."),
    code(403, "field_hidden", "A plugin hides this field from you, so you cannot filter or sort by it."),
    code(404, "lead_not_found", "There is no such lead, or you may not see it."),
    code(404, "activity_not_found", "There is no such activity, or you may not see its lead."),
    code(404, "user_not_found", "There is no such user."),
    code(404, "event_not_found", "There is no such event in the log."),
    code(404, "plugin_not_found", "There is no such plugin."),
    code(404, "effect_not_found", "The plugin has no such open effect."),
    code(408, "request_timeout", "The body took too long to arrive."),
    code(409, "not_explained", "The state that shaped the event was not recorded, or can no longer be loaded."),
    code(409, "nothing_held", "No candidate is held."),
    code(409, "other_held", "The held candidate has another hash."),
    code(409, "nothing_before", "There is no previous generation, or its code was not kept whole."),
    code(409, "other_in_force", "The plugin in force has another hash."),
    code(409, "not_in_force", "The plugin would not come into force; nothing was changed."),
    code(412, "version_conflict", "The lead has another version; `current` is the lead as it is now."),
    code(413, "payload_too_large", "The body is too long."),
    code(415, "unsupported_media_type", "The body must be JSON in UTF-8, without a Content-Encoding."),
    code(422, "invalid", "`errors` lists every invalid field."),
    code(422, "idempotency_key_reused", "The idempotency key was already used for another request."),
    code(422, OF_PLUGIN, "A plugin refused the request, under a code of its own."),
    code(429, "rate_limited", "Too many attempts, or too many requests in progress."),
    code(500, "internal", "A fault of the server; its log has the details under `requestId`."),
    code(500, "database_corrupt", "Stored data cannot be read; `detail` names the table."),
    code(503, "plugin_unavailable", "A plugin that must be asked is failing."),
    code(503, "database_unavailable", "The database cannot be used at the moment; nothing was changed."),
    code(503, "unavailable", "The server is too busy."),
    code(503, "timeout", "The request took too long."),
];

/// Returns a code of the table.
///
/// # Panics
/// When there is no such code: an operation names one that no refusal has.
pub(crate) fn named(name: &str) -> &'static Code {
    CODES.iter().find(|code| code.name == name).unwrap_or_else(|| panic!("{name} is not in the table of codes"))
}

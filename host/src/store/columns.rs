//! Columns of the tables whose rows are read whole, named once: a statement that says `*` would read columns in another
//! order, or more of them, after a migration. `written` lists those that INSERT and UPDATE both set, in the order in
//! which they are bound.

/// List of the columns of a table, or of its alias, as a literal for `concat!`.
macro_rules! columns {
    (activities as a) => {
        "a.id, a.lead_id, a.type, a.body, a.creator_id, a.plugin_id, a.due_at, a.completed_at, \
         a.meta, a.created_at, a.updated_at"
    };
    (activities written) => {
        "type, body, due_at, completed_at, meta, updated_at"
    };
    (audit) => {
        "id, at, last_at, count, kind, anonymous, actor, subject, address, request_id, detail"
    };
    (delivery_resets) => {
        "role, seq"
    };
    (delivery_switches) => {
        "seq, generation, visibility"
    };
    (effects) => {
        "id, plugin, occasion, position, name, input, cause, happened_at, state, attempts, due_at, \
         reason, created_at, finished_at"
    };
    (events) => {
        "seq, name, rooms, lead_id, payload, context, at"
    };
    (holds) => {
        "role, lead_id, is_all, first_seq, plugin, reason, at"
    };
    (idempotency_keys) => {
        "user_id, key, fingerprint, outcome, created_at"
    };
    (lead_changes) => {
        "id, lead_id, field, from_value, to_value, actor, changed_at"
    };
    (leads as l) => {
        "l.id, l.title, l.status, l.contact_name, l.company, l.email, l.phone, l.source, \
         l.value_cents, l.currency, l.description, l.external_id, l.custom, l.owner_id, l.created_by, \
         l.last_activity_at, l.version, l.created_at, l.updated_at, l.deleted_at, l.rev"
    };
    (leads written) => {
        "id, title, status, contact_name, company, email, phone, source, value_cents, currency, \
         description, external_id, custom, owner_id, created_by, last_activity_at, version, rev, \
         created_at, updated_at, title_key, company_key"
    };
    (plugin_actors) => {
        "id, name, created_at"
    };
    (plugin_generations) => {
        "id, at, members"
    };
    (reminders) => {
        "plugin, key, id, due_at, lead_id, data, cause"
    };
    (users) => {
        "id, email, name, role, active, password_hash, created_at, updated_at, rights_seq, \
         tokens_not_before"
    };
    (users as u) => {
        "u.id, u.email, u.name, u.role, u.active, u.password_hash, u.created_at, u.updated_at, \
         u.rights_seq, u.tokens_not_before"
    };
    (users written) => {
        "email, name, role, active, updated_at"
    };
}

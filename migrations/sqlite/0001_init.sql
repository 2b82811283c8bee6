-- Ids are UUIDs in text form; times are RFC 3339 UTC with milliseconds, so that text order is time order.

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,              -- lower case
    name          TEXT NOT NULL,
    role          TEXT NOT NULL CHECK (role IN ('ADMIN', 'MANAGER', 'SALES', 'VIEWER')),
    active        INTEGER NOT NULL CHECK (active IN (0, 1)),
    password_hash TEXT NOT NULL,                     -- PHC string, argon2id
    created_at    TEXT NOT NULL,
    updated_at    TEXT NOT NULL
) STRICT;

-- One login. Its refresh tokens form a family that dies as one.
CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    ended_at   TEXT
) STRICT;

CREATE INDEX sessions_by_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
    hash       TEXT PRIMARY KEY,                     -- SHA-256 of the token, hex
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    issued_at  TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    used_at    TEXT
) STRICT;

CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE leads (
    id               TEXT PRIMARY KEY,
    title            TEXT NOT NULL,
    status           TEXT NOT NULL,
    contact_name     TEXT,
    company          TEXT,
    email            TEXT,
    phone            TEXT,
    source           TEXT,
    value_cents      INTEGER,
    currency         TEXT NOT NULL,
    description      TEXT,
    custom           TEXT NOT NULL,                  -- a JSON object
    owner_id         TEXT REFERENCES users (id),
    created_by       TEXT NOT NULL REFERENCES users (id),
    last_activity_at TEXT,
    version          INTEGER NOT NULL,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    deleted_at       TEXT
) STRICT;

CREATE INDEX leads_by_update ON leads (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX leads_by_creation ON leads (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX leads_by_owner ON leads (owner_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX leads_by_status ON leads (status, updated_at, id) WHERE deleted_at IS NULL;

CREATE TABLE activities (
    id           TEXT PRIMARY KEY,
    lead_id      TEXT NOT NULL REFERENCES leads (id),
    type         TEXT NOT NULL,
    body         TEXT,
    creator_id   TEXT NOT NULL REFERENCES users (id),
    due_at       TEXT,
    completed_at TEXT,
    meta         TEXT NOT NULL,                      -- a JSON object
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL
) STRICT;

CREATE INDEX activities_by_lead ON activities (lead_id, created_at, id);

-- Who changed what from what to what: one row a field.
CREATE TABLE lead_changes (
    id         INTEGER PRIMARY KEY,
    lead_id    TEXT NOT NULL REFERENCES leads (id),
    field      TEXT NOT NULL,
    from_value TEXT NOT NULL,                        -- JSON
    to_value   TEXT NOT NULL,                        -- JSON
    actor      TEXT NOT NULL,                        -- JSON: id, email, role as they were then
    changed_at TEXT NOT NULL
) STRICT;

CREATE INDEX lead_changes_by_lead ON lead_changes (lead_id, id);

-- The log. `head` is the one counter: it is bumped in the transaction that appends, so that the
-- order of seqs is the order of commits and none is missing.
CREATE TABLE log (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL,
    head  INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,
    rooms   TEXT NOT NULL,                           -- a JSON array of room names
    lead_id TEXT,
    payload TEXT NOT NULL,                           -- JSON, as it would leave if nothing shaped it
    context TEXT NOT NULL,                           -- JSON: lead, before
    at      TEXT NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    user_id     TEXT NOT NULL REFERENCES users (id),
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,                       -- SHA-256 of the command, hex
    outcome     TEXT NOT NULL,                       -- JSON, not shaped for anyone
    created_at  TEXT NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Plugins act too. One that follows the log gets an id that outlives its files, because activities name it as their
-- creator. It is no user: no row of `users` is it, so that it cannot sign in, own a lead or stand among people.
CREATE TABLE plugin_actors (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL
) STRICT;

-- An activity is a user's or a plugin's. SQLite cannot take NOT NULL away, so the table is made anew; no other refers to it.
CREATE TABLE new_activities (
    id           TEXT PRIMARY KEY,
    lead_id      TEXT NOT NULL REFERENCES leads (id),
    type         TEXT NOT NULL,
    body         TEXT,
    creator_id   TEXT REFERENCES users (id),
    plugin_id    TEXT REFERENCES plugin_actors (id),
    due_at       TEXT,
    completed_at TEXT,
    meta         TEXT NOT NULL,                      -- a JSON object
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    CHECK ((creator_id IS NULL) <> (plugin_id IS NULL))
) STRICT;

INSERT INTO new_activities (id, lead_id, type, body, creator_id, due_at, completed_at, meta, created_at, updated_at)
    SELECT id, lead_id, type, body, creator_id, due_at, completed_at, meta, created_at, updated_at FROM activities;
DROP TABLE activities;
ALTER TABLE new_activities RENAME TO activities;
CREATE INDEX activities_by_lead ON activities (lead_id, created_at, id);

-- How far each plugin has followed the log, and what it asked to be kept.
CREATE TABLE followers (
    plugin  TEXT PRIMARY KEY REFERENCES plugin_actors (name),
    seq     INTEGER NOT NULL,                        -- the last line that it needs not be asked about any more
    state   TEXT,
    stopped INTEGER NOT NULL DEFAULT 0               -- lines that it was not asked about because a chain was too long
) STRICT;

-- What plugins want done, one after the other in the order of their ids. `after` and `gap` are no effects: an occasion
-- that a plugin could not be asked about, and lines that the log no longer had.
CREATE TABLE effects (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,   -- never given out twice, because people name effects by it
    plugin      TEXT NOT NULL REFERENCES plugin_actors (name),
    occasion    TEXT NOT NULL,
    position    INTEGER NOT NULL,                    -- in the answer; -1 for the question itself
    name        TEXT NOT NULL,
    input       TEXT NOT NULL,                       -- a JSON object
    cause       TEXT NOT NULL,                       -- JSON: what events made by it bear
    happened_at TEXT NOT NULL,                       -- when the occasion was
    state       TEXT NOT NULL CHECK (state IN ('pending', 'parked', 'done')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      TEXT NOT NULL,                       -- not to be tried before
    reason      TEXT,                                -- why the last attempt failed
    created_at  TEXT NOT NULL,
    finished_at TEXT,
    UNIQUE (plugin, occasion, position)
) STRICT;

CREATE INDEX effects_open ON effects (plugin, state, id) WHERE state <> 'done';
CREATE INDEX effects_done ON effects (finished_at) WHERE state = 'done';

-- What plugins asked to be reminded of; a later one with the same key takes the place of the earlier.
CREATE TABLE reminders (
    plugin  TEXT NOT NULL REFERENCES plugin_actors (name),
    key     TEXT NOT NULL,
    id      TEXT NOT NULL UNIQUE,
    due_at  TEXT NOT NULL,
    lead_id TEXT,
    data    TEXT NOT NULL,                           -- JSON
    cause   TEXT NOT NULL,                           -- JSON
    PRIMARY KEY (plugin, key)
) STRICT;

CREATE INDEX reminders_by_time ON reminders (plugin, due_at);

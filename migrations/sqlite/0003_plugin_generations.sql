-- What shaped the events of the log: the files of plugins, the sets they made up, and from which seq on
-- delivery used which set. Kept for as long as the log has an event that one of them shaped.
CREATE TABLE plugin_files (
    hash  TEXT PRIMARY KEY,                          -- SHA-256 of the bytes, hex
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE plugin_generations (
    id      INTEGER PRIMARY KEY,                     -- the number of the set, as operators see it
    at      TEXT NOT NULL,
    members TEXT NOT NULL                            -- a JSON array: name, version, hash, settings, and so on
) STRICT;

-- The events from `first_seq` on, up to the next mark, were shaped by that generation when they were delivered.
CREATE TABLE delivery_marks (
    first_seq  INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,                     -- 0 for a server without plugins
    visibility TEXT NOT NULL                         -- JSON: [visibility] of the configuration
) STRICT;

-- Tokens without a session (issued elsewhere) that were issued up to then are refused: a reset of the password, a logout
-- everywhere and a deactivation move it.
ALTER TABLE users ADD COLUMN tokens_not_before TEXT;

-- From where each account signed in before: strangers cannot use up the tries of such a network.
CREATE TABLE known_networks (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network TEXT NOT NULL,                           -- an IPv4 address, or the first address of an IPv6 /64
    seen_at TEXT NOT NULL,
    PRIMARY KEY (user_id, network)
) STRICT;

-- Who did what to accounts, sessions and plugins, and who failed to sign in.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         TEXT NOT NULL,
    last_at    TEXT NOT NULL,                        -- of the last one, where several are one row
    count      INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    anonymous  INTEGER NOT NULL CHECK (anonymous IN (0, 1)), -- whether anybody can cause it; such rows have a limit of their own
    actor      TEXT,                                 -- a user's id, or 'operator' for the command line
    subject    TEXT,                                 -- a user's id, or a plugin's name
    address    TEXT,
    request_id TEXT,
    detail     TEXT NOT NULL                         -- a JSON object
) STRICT;

CREATE INDEX audit_by_age ON audit (anonymous, id);

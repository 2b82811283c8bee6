-- What takes force takes force by a line of the log: which set of plugins and which [visibility] shaped the lines
-- behind `seq`, up to the next row. Kept for as long as the log has an event that one of them shaped.
CREATE TABLE delivery_switches (
    seq        INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,                     -- 0 for a server without plugins
    visibility TEXT NOT NULL                         -- JSON: [visibility] of the configuration
) STRICT;

-- Who is behind that line has to fetch again: events alone do not make its list right.
CREATE TABLE delivery_resets (
    role TEXT PRIMARY KEY,
    seq  INTEGER NOT NULL
) STRICT;

-- A mark named the first event that was shaped otherwise; that it was may have changed lists.
INSERT INTO delivery_switches (seq, generation, visibility)
    SELECT first_seq - 1, generation, visibility FROM delivery_marks;
INSERT INTO delivery_resets (role, seq)
    SELECT roles.role, marks.last
    FROM (SELECT max(first_seq) AS last, count(*) AS number FROM delivery_marks) AS marks,
         (SELECT 'ADMIN' AS role UNION SELECT 'MANAGER' UNION SELECT 'SALES' UNION SELECT 'VIEWER') AS roles
    WHERE marks.number > 1;
DROP TABLE delivery_marks;

-- The newest line that changed what the user may see: the account was made, its role or `active` changed.
ALTER TABLE users ADD COLUMN rights_seq INTEGER NOT NULL DEFAULT 0;
UPDATE users SET rights_seq = last.seq
    FROM (SELECT json_extract(context, '$.user.id') AS id, max(seq) AS seq
          FROM events WHERE name = 'session:updated' GROUP BY 1) AS last
    WHERE last.id = users.id;

-- `version` counts what clients write, `rev` every write to the row. What was written before has its version.
ALTER TABLE leads ADD COLUMN rev INTEGER NOT NULL DEFAULT 1;
UPDATE leads SET rev = version;
UPDATE events SET payload = json_set(payload, '$.lead.rev', json_extract(payload, '$.lead.version'))
    WHERE json_type(payload, '$.lead.version') = 'integer';
UPDATE idempotency_keys SET outcome = json_set(outcome, '$.lead.rev', json_extract(outcome, '$.lead.version'))
    WHERE json_type(outcome, '$.lead.version') = 'integer';

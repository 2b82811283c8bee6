-- What leads are searched and sorted by: their texts without case, accents and differences of form, which SQLite
-- cannot make. The program writes a row with each lead, and fills in the rows of leads that were there before.
CREATE TABLE lead_search (
    lead_id      TEXT PRIMARY KEY REFERENCES leads (id) ON DELETE CASCADE,
    title        TEXT NOT NULL,
    contact_name TEXT NOT NULL,
    company      TEXT NOT NULL,
    email        TEXT NOT NULL,
    phone        TEXT NOT NULL,
    phone_digits TEXT NOT NULL,
    description  TEXT NOT NULL
) STRICT;

-- How far the filling in is: `folding` names the way in which all rows are made, `target` the one that they are being
-- made anew in, up to the lead `done`.
CREATE TABLE lead_search_state (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    folding INTEGER NOT NULL,
    target  INTEGER NOT NULL,
    done    TEXT NOT NULL
) STRICT;

INSERT INTO lead_search_state (id, folding, target, done) VALUES (1, 0, 0, '');

-- Events of a lead that sockets of a role went past, because a filter gave no verdict on them. Kept until it does:
-- then who went past them is told to fetch again.
CREATE TABLE holds (
    role      TEXT NOT NULL,
    lead_id   TEXT NOT NULL,                         -- for a hold of all leads: the one that it is judged by
    is_all    INTEGER NOT NULL,                      -- whether it stands for every lead of the role
    first_seq INTEGER NOT NULL,                      -- the first event that was held back
    plugin    TEXT NOT NULL,                         -- which gave no verdict then
    reason    TEXT NOT NULL,
    at        TEXT NOT NULL,
    PRIMARY KEY (role, lead_id)
) STRICT, WITHOUT ROWID;

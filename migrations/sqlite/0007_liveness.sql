-- Written to find out whether the database can be written; what it holds means nothing.
CREATE TABLE liveness (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL,
    filler BLOB
);

INSERT INTO liveness (id, count) VALUES (1, 0);

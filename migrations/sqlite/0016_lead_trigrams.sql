-- Trigrams of the texts of `lead_search`, to find the leads that may contain a text. It keeps no text of its own, and no
-- positions: what it finds is looked up and compared. Each field is a document, numbered 8 * place + field, because a
-- change rewrites whole documents.
CREATE VIRTUAL TABLE lead_trigrams USING fts5 (
    text, content = '', columnsize = 0, detail = none, tokenize = 'trigram case_sensitive 1'
);

-- With the default of 4, a merge that is under way stands still while two or three new segments wait, and does so in
-- silence.
INSERT INTO lead_trigrams (lead_trigrams, rank) VALUES ('usermerge', 2);

-- Rows of `lead_search` up to the place `todo` are not in the index yet; the program adds them from the last to the
-- first. `purge` is 1 once a text was erased whose trigrams the index may still contain, and 2 while they are merged out
-- of it.
CREATE TABLE lead_trigrams_state (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    todo  INTEGER NOT NULL,
    purge INTEGER NOT NULL
) STRICT;

INSERT INTO lead_trigrams_state (id, todo, purge) SELECT 1, coalesce(max(place), 0), 0 FROM lead_search;

CREATE TRIGGER lead_search_inserted AFTER INSERT ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) BEGIN
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 0, new.title WHERE new.title <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 1, new.contact_name WHERE new.contact_name <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 2, new.company WHERE new.company <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 3, new.email WHERE new.email <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 4, new.phone WHERE new.phone <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 5, new.phone_digits WHERE new.phone_digits <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 6, new.description WHERE new.description <> '';
END;

CREATE TRIGGER lead_search_deleted AFTER DELETE ON lead_search
WHEN old.place > (SELECT todo FROM lead_trigrams_state) BEGIN
    UPDATE lead_trigrams_state SET purge = 1 WHERE purge <> 1;
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 0, old.title WHERE old.title <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 1, old.contact_name WHERE old.contact_name <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 2, old.company WHERE old.company <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 3, old.email WHERE old.email <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 4, old.phone WHERE old.phone <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 5, old.phone_digits WHERE old.phone_digits <> '';
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 6, old.description WHERE old.description <> '';
END;

CREATE TRIGGER lead_search_title_updated AFTER UPDATE OF title ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.title <> new.title BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 0, old.title WHERE old.title <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 0, new.title WHERE new.title <> '';
END;

CREATE TRIGGER lead_search_contact_name_updated AFTER UPDATE OF contact_name ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.contact_name <> new.contact_name BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 1, old.contact_name WHERE old.contact_name <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 1, new.contact_name WHERE new.contact_name <> '';
END;

CREATE TRIGGER lead_search_company_updated AFTER UPDATE OF company ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.company <> new.company BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 2, old.company WHERE old.company <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 2, new.company WHERE new.company <> '';
END;

CREATE TRIGGER lead_search_email_updated AFTER UPDATE OF email ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.email <> new.email BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 3, old.email WHERE old.email <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 3, new.email WHERE new.email <> '';
END;

CREATE TRIGGER lead_search_phone_updated AFTER UPDATE OF phone ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.phone <> new.phone BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 4, old.phone WHERE old.phone <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 4, new.phone WHERE new.phone <> '';
END;

CREATE TRIGGER lead_search_phone_digits_updated AFTER UPDATE OF phone_digits ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.phone_digits <> new.phone_digits BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 5, old.phone_digits WHERE old.phone_digits <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 5, new.phone_digits WHERE new.phone_digits <> '';
END;

CREATE TRIGGER lead_search_description_updated AFTER UPDATE OF description ON lead_search
WHEN new.place > (SELECT todo FROM lead_trigrams_state) AND old.description <> new.description BEGIN
    INSERT INTO lead_trigrams (lead_trigrams, rowid, text)
        SELECT 'delete', 8 * old.place + 6, old.description WHERE old.description <> '';
    INSERT INTO lead_trigrams (rowid, text) SELECT 8 * new.place + 6, new.description WHERE new.description <> '';
END;

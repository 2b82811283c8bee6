-- What lists of leads are sorted by, as columns that are never null, so that positions in a list compare. `stage` is the
-- place of the status in the pipeline. The program folds titles and companies, as it does for `lead_search`.
ALTER TABLE leads ADD COLUMN title_key TEXT NOT NULL DEFAULT '';
ALTER TABLE leads ADD COLUMN company_key TEXT NOT NULL DEFAULT '';
ALTER TABLE leads ADD COLUMN is_deleted INTEGER NOT NULL GENERATED ALWAYS AS (deleted_at IS NOT NULL) VIRTUAL;
ALTER TABLE leads ADD COLUMN activity_key TEXT NOT NULL GENERATED ALWAYS AS (coalesce(last_activity_at, '')) VIRTUAL;
ALTER TABLE leads ADD COLUMN value_key INTEGER NOT NULL GENERATED ALWAYS AS (coalesce(value_cents, -1)) VIRTUAL;
ALTER TABLE leads ADD COLUMN stage INTEGER NOT NULL GENERATED ALWAYS AS (
    CASE status WHEN 'NEW' THEN 0 WHEN 'CONTACTED' THEN 1 WHEN 'QUALIFIED' THEN 2 WHEN 'PROPOSAL' THEN 3
        WHEN 'NEGOTIATION' THEN 4 WHEN 'WON' THEN 5 WHEN 'LOST' THEN 6 ELSE 7 END
) VIRTUAL;

DROP INDEX leads_by_update;
DROP INDEX leads_by_creation;
DROP INDEX leads_by_owner;
DROP INDEX leads_by_status;
DROP INDEX leads_deleted;

-- Before the indexes exist, which would follow each row.
UPDATE leads SET title_key = s.title, company_key = s.company FROM lead_search s WHERE s.lead_id = leads.id;

-- A list is merged from one range for each stage that it shows, all of them in the order of the list.
CREATE INDEX leads_by_update ON leads (is_deleted, stage, updated_at, id);
CREATE INDEX leads_by_creation ON leads (is_deleted, stage, created_at, id);
CREATE INDEX leads_by_activity ON leads (is_deleted, stage, activity_key, id);
CREATE INDEX leads_by_title ON leads (is_deleted, stage, title_key, id);
CREATE INDEX leads_by_company ON leads (is_deleted, stage, company_key, id);
CREATE INDEX leads_by_stage ON leads (is_deleted, stage, id);
CREATE INDEX leads_by_value ON leads (is_deleted, stage, value_key, id);

-- The same for the leads of one owner, or of nobody: [visibility] may limit every list of a role to them.
CREATE INDEX owned_leads_by_update ON leads (owner_id, is_deleted, stage, updated_at, id);
CREATE INDEX owned_leads_by_creation ON leads (owner_id, is_deleted, stage, created_at, id);
CREATE INDEX owned_leads_by_activity ON leads (owner_id, is_deleted, stage, activity_key, id);
CREATE INDEX owned_leads_by_title ON leads (owner_id, is_deleted, stage, title_key, id);
CREATE INDEX owned_leads_by_company ON leads (owner_id, is_deleted, stage, company_key, id);
CREATE INDEX owned_leads_by_stage ON leads (owner_id, is_deleted, stage, id);
CREATE INDEX owned_leads_by_value ON leads (owner_id, is_deleted, stage, value_key, id);

-- Few leads have a rare source, or were made on one day: they are collected and sorted.
CREATE INDEX leads_by_source ON leads (source) WHERE source IS NOT NULL;
CREATE INDEX leads_by_time ON leads (created_at);

-- Rows of `lead_search` are numbered: other tables of text name them by a number that VACUUM keeps.
CREATE TABLE new_lead_search (
    place        INTEGER PRIMARY KEY,
    lead_id      TEXT NOT NULL UNIQUE REFERENCES leads (id) ON DELETE CASCADE,
    title        TEXT NOT NULL,
    contact_name TEXT NOT NULL,
    company      TEXT NOT NULL,
    email        TEXT NOT NULL,
    phone        TEXT NOT NULL,
    phone_digits TEXT NOT NULL,
    description  TEXT NOT NULL
) STRICT;

INSERT INTO new_lead_search (lead_id, title, contact_name, company, email, phone, phone_digits, description)
    SELECT lead_id, title, contact_name, company, email, phone, phone_digits, description
    FROM lead_search ORDER BY lead_id;
DROP TABLE lead_search;
ALTER TABLE new_lead_search RENAME TO lead_search;

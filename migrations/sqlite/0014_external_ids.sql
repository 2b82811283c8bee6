-- Id of a lead in another system. It is not unique: two systems may use the same ids.
ALTER TABLE leads ADD COLUMN external_id TEXT;
CREATE INDEX leads_by_external_id ON leads (external_id) WHERE external_id IS NOT NULL;

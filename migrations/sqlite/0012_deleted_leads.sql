-- Deleted leads are listed newest change first, as the others are.
CREATE INDEX leads_deleted ON leads (updated_at, id) WHERE deleted_at IS NOT NULL;

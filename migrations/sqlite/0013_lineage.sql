-- Names the database for as long as it lives, over all its epochs. A copy has it as well: that is how a data directory
-- tells a copy of the database that it belongs to from another one.
ALTER TABLE log ADD COLUMN lineage TEXT NOT NULL DEFAULT '';
UPDATE log SET lineage = lower(hex(randomblob(16)));

-- What a lead has lived through is asked for by subscribers who come back. An index holds the seq as well: it is the rowid.
CREATE INDEX events_by_lead ON events (lead_id) WHERE lead_id IS NOT NULL;

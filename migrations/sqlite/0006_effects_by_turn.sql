-- What is to be done next is found without looking at what waits behind it, or was done and is still remembered.
CREATE INDEX effects_next ON effects (plugin, id) WHERE state = 'pending' AND name NOT IN ('webhook', 'after');
CREATE INDEX effects_due ON effects (plugin, name, due_at, id) WHERE state = 'pending';

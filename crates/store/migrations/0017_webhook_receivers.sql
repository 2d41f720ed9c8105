-- Several receivers of webhook messages: the name of the one that a message is for. Messages of older versions are for the first one.

ALTER TABLE outbox ADD COLUMN receiver TEXT NOT NULL DEFAULT 'default';

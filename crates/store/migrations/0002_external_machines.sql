-- The external machine of a session, by its name in the configuration. One live session at a time may use one.

ALTER TABLE sessions ADD COLUMN external_machine TEXT;

CREATE UNIQUE INDEX sessions_one_for_an_external_machine ON sessions (external_machine) WHERE state = 'active';

-- The provider's settings that were given to a session, as a JSON object of ids and values.

ALTER TABLE sessions ADD COLUMN settings TEXT;

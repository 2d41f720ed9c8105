-- MACs of rows: what others than this program have changed is not accepted. The rows get theirs when a program with the keys first
-- uses the database; from then on every row needs one.

ALTER TABLE callers ADD COLUMN mac TEXT;
ALTER TABLE browsers ADD COLUMN mac TEXT;
ALTER TABLE login_tokens ADD COLUMN mac TEXT;
ALTER TABLE tickets ADD COLUMN mac TEXT;
ALTER TABLE consents ADD COLUMN mac TEXT;
ALTER TABLE credentials ADD COLUMN mac TEXT;
ALTER TABLE timeline ADD COLUMN mac TEXT;

-- How many entries each timeline has: entries that were removed at the end are noticed.
CREATE TABLE timeline_heads (
    session_id TEXT PRIMARY KEY NOT NULL REFERENCES sessions (id),
    entries    BIGINT NOT NULL CHECK (entries >= 0),
    mac        TEXT
);

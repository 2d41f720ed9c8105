-- The viewers that agreed to sign in for the owner of their session.

CREATE TABLE consents (
    caller_id    TEXT PRIMARY KEY NOT NULL REFERENCES callers (id) ON DELETE CASCADE,
    agreed_at_ms BIGINT NOT NULL
);

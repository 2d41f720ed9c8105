-- Callers of one kind cannot stand in for another, have scopes and more roles, and belong to the caller that made them.
-- There are no rows: no earlier version wrote such a database.

ALTER TABLE callers
    DROP CONSTRAINT callers_role_check,
    DROP CONSTRAINT callers_check,
    -- Names of scopes, separated by spaces.
    ADD COLUMN scopes TEXT NOT NULL,
    -- Sessions and credentials are stored under this id: the caller's own, or for a rotated token that of the first token.
    ADD COLUMN account_id TEXT NOT NULL REFERENCES callers (id),
    -- The caller that made this one; both are revoked with it.
    ADD COLUMN parent_id TEXT REFERENCES callers (id),
    ADD COLUMN last_used_at_ms BIGINT,
    ADD COLUMN kind TEXT NOT NULL CHECK (kind IN ('api_token', 'browser_cookie', 'viewer_cookie', 'local_socket')),
    ADD CHECK (role IN ('operator', 'auditor', 'backend', 'user', 'viewer', 'helper')),
    -- A viewer and a helper see one session; no other caller is bound to one.
    ADD CHECK ((role IN ('viewer', 'helper')) = (session_id IS NOT NULL)),
    ADD CHECK ((kind = 'viewer_cookie') = (session_id IS NOT NULL));
CREATE INDEX callers_by_parent ON callers (parent_id);
CREATE INDEX callers_by_account ON callers (account_id);

DROP TABLE login_tokens;
CREATE TABLE login_tokens (
    hash          TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('operator', 'viewer', 'helper')),
    name          TEXT,
    session_id    TEXT REFERENCES sessions (id),
    -- The caller that made the link. An operator's link of an earlier version has none.
    caller_id     TEXT REFERENCES callers (id),
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    -- `operator` signs in an operator, `helper` admits a view-only helper of this name; `viewer` gives access to one session.
    CHECK ((kind IN ('operator', 'helper')) = (name IS NOT NULL)),
    CHECK ((kind IN ('viewer', 'helper')) = (session_id IS NOT NULL))
);
CREATE INDEX login_tokens_by_caller ON login_tokens (caller_id);

-- What becomes of a credential after it was captured: its policy, whether it still counts, its re-sealings, its uses; and what
-- others are to be told.

-- The method that the tool is being signed in by; what the session is for; the credential that it is about.
ALTER TABLE sessions ADD COLUMN method TEXT;
ALTER TABLE sessions ADD COLUMN purpose TEXT NOT NULL DEFAULT 'sign_in'
    CHECK (purpose IN ('sign_in', 'exec', 'check', 'logout'));
ALTER TABLE sessions ADD COLUMN uses_credential TEXT REFERENCES credentials (id)
    CHECK ((purpose = 'sign_in') = (uses_credential IS NULL))
    CHECK (uses_credential IS NULL OR credential_id IS NULL OR credential_id = uses_credential);
-- Which revision of it lies in the machine.
ALTER TABLE sessions ADD COLUMN uses_revision BIGINT
    CHECK ((uses_credential IS NULL) = (uses_revision IS NULL));
ALTER TABLE sessions ADD COLUMN renews_credential TEXT REFERENCES credentials (id)
    CHECK (renews_credential IS NULL OR purpose = 'sign_in')
    CHECK (renews_credential IS NULL OR credential_id IS NULL OR credential_id = renews_credential);
ALTER TABLE sessions ADD COLUMN exit_code BIGINT
    CHECK (exit_code IS NULL OR (purpose <> 'sign_in' AND state <> 'active'));

ALTER TABLE credentials ADD COLUMN method TEXT;
ALTER TABLE credentials ADD COLUMN policy TEXT NOT NULL DEFAULT 'store'
    CHECK (policy IN ('store', 'deliver_once'));
ALTER TABLE credentials ADD COLUMN deliver_until_ms BIGINT
    CHECK ((policy = 'deliver_once') = (deliver_until_ms IS NOT NULL));
ALTER TABLE credentials ADD COLUMN health TEXT NOT NULL DEFAULT 'valid'
    CHECK (health IN ('valid', 'expiring', 'needs_auth'));
ALTER TABLE credentials ADD COLUMN health_detail TEXT;
-- Absent: when it was stored.
ALTER TABLE credentials ADD COLUMN checked_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN ends_at_ms BIGINT;
-- Counts how often its bytes were replaced by others of the tool's; wrapping them with another key is none of that.
ALTER TABLE credentials ADD COLUMN revision BIGINT NOT NULL DEFAULT 1 CHECK (revision >= 1);
CREATE INDEX credentials_to_deliver ON credentials (deliver_until_ms) WHERE deliver_until_ms IS NOT NULL;
CREATE INDEX credentials_that_end ON credentials (ends_at_ms) WHERE ends_at_ms IS NOT NULL;

-- What somebody outside is to be told; written with what it tells of.
CREATE TABLE outbox (
    id            TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL,
    session_id    TEXT REFERENCES sessions (id),
    credential_id TEXT REFERENCES credentials (id),
    created_at_ms BIGINT NOT NULL,
    due_at_ms     BIGINT NOT NULL,
    attempts      BIGINT NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error    TEXT,
    done_at_ms    BIGINT,
    CHECK (session_id IS NOT NULL OR credential_id IS NOT NULL)
);
CREATE INDEX outbox_due ON outbox (due_at_ms) WHERE done_at_ms IS NULL;

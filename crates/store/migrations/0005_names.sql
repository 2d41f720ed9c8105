-- Names that a newcomer understands. No value of a row changes its meaning.

CREATE TABLE login_tokens (
    hash          TEXT PRIMARY KEY NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('operator', 'viewer')),
    name          TEXT,
    session_id    TEXT REFERENCES sessions (id),
    expires_at_ms BIGINT NOT NULL,
    used_at_ms    BIGINT,
    -- `operator` signs in an operator of this name; `viewer` gives access to one session.
    CHECK ((kind = 'operator') = (name IS NOT NULL)),
    CHECK ((kind = 'viewer') = (session_id IS NOT NULL))
);
INSERT INTO login_tokens (hash, kind, name, session_id, expires_at_ms, used_at_ms)
    SELECT hash, CASE kind WHEN 'enter' THEN 'operator' ELSE kind END, name, session_id, expires_at_ms, used_at_ms FROM passes;
DROP TABLE passes;

-- The credential that a session uses, the revision of it that is installed in the machine, and the credential that a sign-in renews.
ALTER TABLE sessions RENAME COLUMN uses_credential TO used_credential_id;
ALTER TABLE sessions RENAME COLUMN uses_revision TO used_revision;
ALTER TABLE sessions RENAME COLUMN renews_credential TO renewed_credential_id;

ALTER TABLE credentials RENAME COLUMN ends_at_ms TO expires_at_ms;
DROP INDEX credentials_that_end;
CREATE INDEX credentials_by_expiry ON credentials (expires_at_ms) WHERE expires_at_ms IS NOT NULL;
DROP INDEX credentials_to_deliver;
CREATE INDEX credentials_by_delivery_deadline ON credentials (deliver_until_ms) WHERE deliver_until_ms IS NOT NULL;

-- The revision of a `deliver_once` credential that a message has claimed: until the message is done, no lease and no other message
-- gets these bytes. 0: released for good, the message is sent without them.
ALTER TABLE outbox RENAME COLUMN carries_revision TO claimed_revision;
DROP INDEX outbox_one_carries;
CREATE UNIQUE INDEX outbox_one_claim ON outbox (credential_id, claimed_revision)
    WHERE done_at_ms IS NULL AND claimed_revision > 0;

DROP INDEX sessions_one_for_an_external_machine;
CREATE UNIQUE INDEX sessions_one_per_external_machine ON sessions (external_machine) WHERE state = 'active';

-- A credential that is handed out once goes by one way. Which revision of its credential's bytes a message has with it: as long as the
-- message is not done, nobody else may hand these out. 0: none any more, and none again.
ALTER TABLE outbox ADD COLUMN carries_revision BIGINT
    CHECK (carries_revision IS NULL OR (carries_revision >= 0 AND credential_id IS NOT NULL));
CREATE UNIQUE INDEX outbox_one_carries ON outbox (credential_id, carries_revision)
    WHERE done_at_ms IS NULL AND carries_revision > 0;

-- The triggers as they are in version 17; their names are those of SQLite's, which a test compares.

CREATE FUNCTION reject_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;

-- Rows are deleted only by an erasure, which marks itself in `meta` within its transaction.
CREATE FUNCTION reject_deletion_except_by_an_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM meta WHERE key = 'erasing') THEN
        RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN OLD;
END $$;

-- An ended session stays as it is; its MAC is made again when the keys are rotated.
CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE OF id, caller_id, user_id, provider, return_url, idempotency_key, request_hash,
    state, reason_code, reason_detail, epoch, generation, machine_id, agent_token_hash, claimed_generation, cli_started, created_at_ms,
    last_used_at_ms, idle_deadline_ms, deadline_ms, ended_at_ms, credential_id, external_machine, method, purpose, used_credential_id,
    used_revision, renewed_credential_id, exit_code, settings ON sessions FOR EACH ROW WHEN (OLD.state <> 'active')
EXECUTE FUNCTION reject_change('an ended session must not change');

CREATE TRIGGER sessions_purpose_is_fixed BEFORE UPDATE ON sessions FOR EACH ROW
WHEN (NEW.purpose <> OLD.purpose OR NEW.used_credential_id IS DISTINCT FROM OLD.used_credential_id
    OR NEW.renewed_credential_id IS DISTINCT FROM OLD.renewed_credential_id)
EXECUTE FUNCTION reject_change('the purpose of a session must not change');

CREATE TRIGGER sessions_are_kept BEFORE DELETE ON sessions FOR EACH ROW
EXECUTE FUNCTION reject_deletion_except_by_an_erasure('sessions are not deleted except by an erasure');

-- An entry stays as it is; its MAC is made again when the keys are rotated.
CREATE TRIGGER timeline_is_append_only BEFORE UPDATE OF session_id, number, at_ms, kind, sentence, data ON timeline FOR EACH ROW
EXECUTE FUNCTION reject_change('the timeline is append-only');

CREATE TRIGGER timeline_is_kept BEFORE DELETE ON timeline FOR EACH ROW
EXECUTE FUNCTION reject_deletion_except_by_an_erasure('the timeline is append-only');

CREATE TRIGGER leases_are_append_only BEFORE UPDATE ON leases FOR EACH ROW
EXECUTE FUNCTION reject_change('the record of leases is append-only');

CREATE TRIGGER leases_are_kept BEFORE DELETE ON leases FOR EACH ROW
EXECUTE FUNCTION reject_deletion_except_by_an_erasure('the record of leases is append-only');

CREATE TRIGGER credentials_deleted_stays BEFORE UPDATE ON credentials FOR EACH ROW WHEN (OLD.deleted_at_ms IS NOT NULL)
EXECUTE FUNCTION reject_change('a deleted credential does not change');

CREATE TRIGGER credentials_owner_is_fixed BEFORE UPDATE ON credentials FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.owner <> OLD.owner OR NEW.provider <> OLD.provider)
EXECUTE FUNCTION reject_change('id, owner and provider of a credential must not change');

CREATE TRIGGER credentials_revision_is_counted BEFORE UPDATE ON credentials FOR EACH ROW
WHEN (NEW.revision NOT IN (OLD.revision, OLD.revision + 1)
    OR (NEW.session_id <> OLD.session_id AND NEW.revision = OLD.revision))
EXECUTE FUNCTION reject_change('bytes from another session need the next revision');

CREATE TRIGGER credentials_are_not_deleted BEFORE DELETE ON credentials FOR EACH ROW
EXECUTE FUNCTION reject_deletion_except_by_an_erasure('the row of a credential must not be deleted except by an erasure');

CREATE TRIGGER outbox_done_is_final BEFORE UPDATE ON outbox FOR EACH ROW WHEN (OLD.done_at_ms IS NOT NULL)
EXECUTE FUNCTION reject_change('a message that is done must not change');

CREATE TRIGGER outbox_claim_is_fixed BEFORE UPDATE ON outbox FOR EACH ROW
WHEN (NEW.claimed_revision <> OLD.claimed_revision AND NEW.claimed_revision <> 0)
EXECUTE FUNCTION reject_change('a message must not claim another revision');

-- Sessions and credentials refer to each other; an erasure checks references at its end.
DO $$
DECLARE reference RECORD;
BEGIN
    FOR reference IN SELECT conrelid::regclass AS of_table, conname FROM pg_constraint
        WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE INITIALLY IMMEDIATE', reference.of_table, reference.conname);
    END LOOP;
END $$;

-- What earlier versions wrote is renamed with the program's own names, so that the diagnosis of old sessions stays the same.
-- The triggers that keep such rows from changing are dropped for that and made again, with messages in plain words.
-- PostgreSQL needs none of this: no earlier version wrote such a database.

DROP TRIGGER sessions_ended_stays;
DROP TRIGGER sessions_aim_stays;
DROP TRIGGER timeline_is_append_only;
DROP TRIGGER credentials_stay_whose_they_are;
DROP TRIGGER credentials_count_their_revisions;
DROP TRIGGER credentials_are_kept;
DROP TRIGGER outbox_done_stays;
DROP TRIGGER outbox_carries_the_same;

UPDATE sessions SET reason_code = CASE reason_code
    WHEN 'not_signed_in' THEN 'unauthenticated'
    WHEN 'spent' THEN 'ticket_used'
    WHEN 'not_yours' THEN 'not_owner'
    WHEN 'foreign_origin' THEN 'cross_origin'
    WHEN 'egress_refused' THEN 'egress_denied'
    WHEN 'no_route' THEN 'path_not_found'
    WHEN 'no_method' THEN 'method_not_allowed'
    WHEN 'idle' THEN 'idle_timeout'
    WHEN 'key_reused' THEN 'idempotency_key_reused'
    WHEN 'session_over' THEN 'session_ended'
    WHEN 'not_json' THEN 'unsupported_media_type'
    WHEN 'wrong_shape' THEN 'invalid_credential_format'
    WHEN 'store_unavailable' THEN 'database_unavailable'
    WHEN 'restarted' THEN 'machine_replaced'
    WHEN 'delivering' THEN 'delivery_in_progress'
    WHEN 'machine_taken' THEN 'machine_in_use'
    WHEN 'machine_gone' THEN 'machine_failed'
    WHEN 'use_over' THEN 'use_completed'
    WHEN 'policy_forbids' THEN 'forbidden_by_policy'
    ELSE reason_code END
WHERE reason_code IS NOT NULL;

UPDATE timeline SET kind = CASE kind
    WHEN 'machine_gone' THEN 'machine_exited'
    WHEN 'machine_cleared' THEN 'machine_removed'
    WHEN 'machine_not_gone' THEN 'machine_not_removed'
    WHEN 'method_told_again' THEN 'method_resent'
    WHEN 'machine_refused' THEN 'machine_start_failed'
    WHEN 'restart_asked' THEN 'restart_requested'
    WHEN 'restart_refused' THEN 'restart_rejected'
    WHEN 'crash_loop_over' THEN 'crash_loop_ended'
    WHEN 'memory_enough' THEN 'memory_recovered'
    WHEN 'viewer_refused' THEN 'viewer_rejected'
    WHEN 'delivery_refused' THEN 'delivery_rejected'
    WHEN 'ticket_refused' THEN 'ticket_rejected'
    WHEN 'paste_refused' THEN 'paste_rejected'
    WHEN 'credential_opened' THEN 'credential_unsealed'
    WHEN 'credential_kept' THEN 'credential_kept_in_machine'
    WHEN 'credential_overdue' THEN 'credential_delivery_expired'
    WHEN 'credential_not_asked' THEN 'credential_check_inconclusive'
    WHEN 'handed_out' THEN 'credential_leased'
    WHEN 'webhook_given_up' THEN 'webhook_abandoned'
    WHEN 'egress_granted' THEN 'egress_allowed'
    WHEN 'egress_refused' THEN 'egress_denied'
    WHEN 'desktop_refused' THEN 'desktop_connect_failed'
    WHEN 'desktop_reached' THEN 'desktop_connected'
    WHEN 'use_over' THEN 'use_completed'
    WHEN 'viewer_left' THEN 'viewer_disconnected'
    WHEN 'terminal_left' THEN 'terminal_disconnected'
    ELSE kind END;

UPDATE timeline SET data = json_set(data, '$.reason', CASE json_extract(data, '$.reason')
    WHEN 'not_signed_in' THEN 'unauthenticated'
    WHEN 'spent' THEN 'ticket_used'
    WHEN 'not_yours' THEN 'not_owner'
    WHEN 'foreign_origin' THEN 'cross_origin'
    WHEN 'egress_refused' THEN 'egress_denied'
    WHEN 'no_route' THEN 'path_not_found'
    WHEN 'no_method' THEN 'method_not_allowed'
    WHEN 'idle' THEN 'idle_timeout'
    WHEN 'key_reused' THEN 'idempotency_key_reused'
    WHEN 'session_over' THEN 'session_ended'
    WHEN 'not_json' THEN 'unsupported_media_type'
    WHEN 'wrong_shape' THEN 'invalid_credential_format'
    WHEN 'store_unavailable' THEN 'database_unavailable'
    WHEN 'restarted' THEN 'machine_replaced'
    WHEN 'delivering' THEN 'delivery_in_progress'
    WHEN 'machine_taken' THEN 'machine_in_use'
    WHEN 'machine_gone' THEN 'machine_failed'
    WHEN 'use_over' THEN 'use_completed'
    WHEN 'policy_forbids' THEN 'forbidden_by_policy'
    ELSE json_extract(data, '$.reason') END)
WHERE json_type(data, '$.reason') = 'text';

UPDATE timeline SET data = json_remove(json_set(data, '$.signed_in', json(CASE json_extract(data, '$.agrees') WHEN 1 THEN 'true' ELSE 'false' END)), '$.agrees')
WHERE json_type(data, '$.agrees') IS NOT NULL;

UPDATE timeline SET data = json_remove(json_set(data, '$.socket', json_extract(data, '$.door')), '$.door')
WHERE json_type(data, '$.door') = 'text';

UPDATE timeline SET data = json_remove(json_set(data, '$.why.reason', json_object('kind',
    CASE json_extract(data, '$.why.why.reason')
        WHEN 'unowned' THEN 'orphaned'
        WHEN 'lease_lost' THEN 'operator'
        WHEN 'shutting_down' THEN 'operator'
        ELSE json_extract(data, '$.why.why.reason') END)), '$.why.why')
WHERE kind = 'machine_exited' AND json_extract(data, '$.why.cause') = 'stopped' AND json_type(data, '$.why.why') = 'object';

CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE ON sessions FOR EACH ROW WHEN OLD.state <> 'active'
BEGIN SELECT RAISE(ABORT, 'an ended session must not change'); END;

CREATE TRIGGER sessions_purpose_is_fixed BEFORE UPDATE ON sessions FOR EACH ROW
WHEN NEW.purpose <> OLD.purpose OR NEW.used_credential_id IS NOT OLD.used_credential_id
    OR NEW.renewed_credential_id IS NOT OLD.renewed_credential_id
BEGIN SELECT RAISE(ABORT, 'the purpose of a session must not change'); END;

CREATE TRIGGER timeline_is_append_only BEFORE UPDATE ON timeline FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the timeline is append-only'); END;

CREATE TRIGGER credentials_owner_is_fixed BEFORE UPDATE ON credentials FOR EACH ROW
WHEN NEW.id <> OLD.id OR NEW.owner <> OLD.owner OR NEW.provider <> OLD.provider
BEGIN SELECT RAISE(ABORT, 'id, owner and provider of a credential must not change'); END;

CREATE TRIGGER credentials_revision_is_counted BEFORE UPDATE ON credentials FOR EACH ROW
WHEN NEW.revision NOT IN (OLD.revision, OLD.revision + 1)
    OR (NEW.session_id <> OLD.session_id AND NEW.revision = OLD.revision)
BEGIN SELECT RAISE(ABORT, 'bytes from another session need the next revision'); END;

CREATE TRIGGER credentials_are_not_deleted BEFORE DELETE ON credentials FOR EACH ROW
BEGIN SELECT RAISE(ABORT, 'the row of a credential must not be deleted'); END;

CREATE TRIGGER outbox_done_is_final BEFORE UPDATE ON outbox FOR EACH ROW WHEN OLD.done_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a message that is done must not change'); END;

CREATE TRIGGER outbox_claim_is_fixed BEFORE UPDATE ON outbox FOR EACH ROW
WHEN NEW.claimed_revision <> OLD.claimed_revision AND NEW.claimed_revision <> 0
BEGIN SELECT RAISE(ABORT, 'a message must not claim another revision'); END;

-- An ended session stays as it is; its MAC is made again when the keys are rotated.

DROP TRIGGER sessions_ended_is_final ON sessions;

CREATE TRIGGER sessions_ended_is_final BEFORE UPDATE OF id, caller_id, user_id, provider, return_url, idempotency_key, request_hash,
    state, reason_code, reason_detail, epoch, generation, machine_id, agent_token_hash, claimed_generation, cli_started, created_at_ms,
    last_used_at_ms, idle_deadline_ms, deadline_ms, ended_at_ms, credential_id, external_machine, method, purpose, used_credential_id,
    used_revision, renewed_credential_id, exit_code, settings, host_id, host_incarnation, placement, queued_at_ms, fair_class, fair_rank ON sessions FOR EACH ROW WHEN (OLD.state <> 'active')
EXECUTE FUNCTION reject_change('an ended session must not change');

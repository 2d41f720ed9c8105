//! Requests that are sent again with their idempotency key.

use crate::{api_error::ApiError, session::server_context::ServerContext};
use anteroom_store::{CreateSessionOutcome, IdempotencyKey, SessionRow, Sha256Hex};
use anteroom_wire::{CallerId, Problem, api::StartRequest};

/// The session that the same request started earlier.
pub(super) async fn find_earlier(
    server_context: &ServerContext,
    owner: &CallerId,
    key: Option<&IdempotencyKey>,
) -> Result<Option<SessionRow>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match server_context.store.find_by_idempotency_key(owner, key).await? {
        Some(CreateSessionOutcome::Existing(row)) => Ok(Some(row)),
        Some(CreateSessionOutcome::IdempotencyKeyReused(_)) => Err(Problem::IdempotencyKeyReused.into()),
        Some(CreateSessionOutcome::New(_) | CreateSessionOutcome::MachineInUse(_)) | None => Ok(None),
    }
}

/// The key, with the digest of what was requested.
pub(super) fn idempotency_key(key: &str, request: &StartRequest) -> IdempotencyKey {
    // Optional fields that were added later count only if they are set, so that earlier keys stay valid.
    let mut requested = serde_json::json!([request.provider, request.user_id, request.return_url]);
    let optional = [("method", &request.method), ("renews", &request.renews)];
    let mut optional: serde_json::Map<_, _> =
        optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into()))).collect();
    if !request.labels.is_empty() {
        optional.insert("labels".to_owned(), serde_json::json!(request.labels));
    }
    if !request.settings.is_empty() {
        optional.insert("settings".to_owned(), serde_json::json!(request.settings));
    }
    if let Some(requested) = requested.as_array_mut() {
        requested.extend(request.machine.clone().map(Into::into));
        if !optional.is_empty() {
            requested.push(optional.into());
        }
    }
    IdempotencyKey { key: key.to_owned(), request: Sha256Hex::of_bytes(requested.to_string().as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(change: impl FnOnce(&mut StartRequest)) -> Sha256Hex {
        let mut request = StartRequest::new("codex");
        change(&mut request);
        idempotency_key("key", &request).request
    }

    #[test]
    fn a_request_without_newer_fields_keeps_its_hash() {
        assert_eq!(requested(|_| ()), Sha256Hex::of_bytes(br#"["codex",null,null]"#));
        assert_eq!(
            requested(|it| it.machine = Some("desk".into())),
            Sha256Hex::of_bytes(br#"["codex",null,null,"desk"]"#)
        );
    }

    #[test]
    fn different_requests_have_different_hashes() {
        let hashes = [
            requested(|_| ()),
            requested(|it| it.machine = Some("key".into())),
            requested(|it| it.method = Some("key".into())),
            requested(|it| it.renews = Some("key".into())),
            requested(|it| it.labels = [("a".to_owned(), "b".to_owned())].into()),
            requested(|it| it.settings = [("a".to_owned(), "b".to_owned())].into()),
            requested(|it| (it.method, it.renews) = (Some("key".into()), Some("key".into()))),
        ];
        let different: std::collections::HashSet<_> = hashes.iter().map(Sha256Hex::as_str).collect();
        assert_eq!(different.len(), hashes.len());
    }
}

//! What was delivered, once it is known to be a credential of the session's provider that may be stored.

use crate::{
    api_error::{ApiError, chain},
    app::App,
    clock, credentials,
    session::credential_format,
};
use anteroom_store::{Retention, SessionRow, UnixMs};
use anteroom_vault::{Binding, Sealed};
use anteroom_wire::{
    CredentialId, Problem,
    agent::{DeliveredFile, Delivery},
    api::CredentialFile,
    provider::{CredentialRules, StoragePolicy},
};
use zeroize::Zeroizing;

/// Files of one delivery.
const FILES_MAX: usize = 8;

/// A delivery that counts.
pub(super) struct Parcel {
    plaintext: Zeroizing<Vec<u8>>,
    /// Its files, without their bytes.
    pub(super) described: Vec<CredentialFile>,
    /// How long it is kept.
    pub(super) retention: Retention,
    /// When it ends for good, as it says itself.
    pub(super) expires_at_ms: Option<UnixMs>,
}

impl Parcel {
    /// Checks a delivery.
    ///
    /// # Errors
    /// It is of another provider, not a credential of this one, or not to be stored.
    pub(super) fn check(app: &App, row: &SessionRow, delivery: &Delivery) -> Result<Self, ApiError> {
        let wrong = |detail: String| ApiError::new(Problem::InvalidCredentialFormat, detail);
        if delivery.provider != row.provider {
            return Err(wrong(format!("the session is for {}", row.provider)));
        }
        let provider = app.providers.resolved(&row.provider, row.method.as_ref()).ok_or(Problem::UnknownProvider)?;
        let kept = kept(provider.policy, app.config.credentials.deliver_once_s_max)
            .ok_or_else(|| ApiError::new(Problem::ForbiddenByPolicy, provider.policy.sentence()))?;
        let first = delivery.files.first().ok_or_else(|| wrong("no file".into()))?;
        paths(&provider.credential, &delivery.files).map_err(wrong)?;
        credential_format::check(&provider.credential, first.content.expose()).map_err(wrong)?;
        let expires_at_ms = credentials::expires_at(&provider.credential, first.content.expose());
        // Permission bits and no others: a leased file must not bring a set-user-id bit along.
        let files: Vec<DeliveredFile> =
            delivery.files.iter().map(|file| DeliveredFile { mode: file.mode & 0o777, ..file.clone() }).collect();
        let plaintext = Zeroizing::new(serde_json::to_vec(&files).map_err(|_| Problem::Internal)?);
        Ok(Self { plaintext, described: files.iter().map(described).collect(), kept, expires_at_ms })
    }

    /// Seals it for the session.
    ///
    /// # Errors
    /// [`Problem::Internal`]; the log has the cause.
    pub(super) fn seal(&self, app: &App, row: &SessionRow, id: &CredentialId) -> Result<Sealed, ApiError> {
        let binding = Binding { record: id, owner: &row.owner, provider: &row.provider, session: &row.id };
        app.vault.seal(&binding, &self.plaintext).map_err(|error| {
            tracing::error!(outcome = "seal_failed", session = %row.id, error = %chain(&error), "a credential could not be sealed");
            Problem::Internal.into()
        })
    }

    /// Whether these bytes are its own.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.plaintext.as_slice() == bytes
    }
}

/// How long the policy lets a credential be kept from now on; `None`: it does not let it be stored.
fn kept(policy: StoragePolicy, deliver_once_s_max: u64) -> Option<Retention> {
    match policy {
        StoragePolicy::Store => Some(Retention::UntilDeleted),
        StoragePolicy::DeliverOnce => {
            Some(Retention::UntilDelivered { until_ms: clock::now() + deliver_once_s_max.saturating_mul(1_000) })
        }
        StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => None,
    }
}

/// Whoever leases the credential may write the files where they say: nothing but the provider's own paths, each once. The first is the
/// credential itself; what lies beside it comes after.
fn paths(rules: &CredentialRules, files: &[DeliveredFile]) -> Result<(), String> {
    if files.len() > FILES_MAX {
        return Err(format!("more than {FILES_MAX} files"));
    }
    for (at, file) in files.iter().enumerate() {
        let may_be = rules.paths.contains(&file.path) || (at > 0 && rules.companions.contains(&file.path));
        if !may_be {
            return Err(format!("the path of file {} is not one of the provider's", at + 1));
        }
        if files[..at].iter().any(|before| before.path == file.path) {
            return Err(format!("file {} is there twice", at + 1));
        }
    }
    Ok(())
}

fn described(file: &DeliveredFile) -> CredentialFile {
    CredentialFile { path: file.path.clone(), bytes: file.content.expose().len() as u64, mode: file.mode }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_wire::Base64;

    #[test]
    fn files_beside_come_after_a_credential_and_every_path_is_the_providers_own() {
        let rules = CredentialRules {
            paths: vec!["a".into(), "b".into()],
            companions: vec!["c".into()],
            ..CredentialRules::default()
        };
        let judge = |paths_of: &[&str]| {
            let file = |path: &&str| DeliveredFile { path: (*path).into(), mode: 0o600, content: Base64::new(vec![1]) };
            paths(&rules, &paths_of.iter().map(file).collect::<Vec<_>>())
        };
        for good in [&["a"][..], &["b"], &["a", "c"], &["b", "c", "a"]] {
            assert_eq!(judge(good), Ok(()), "{good:?}");
        }
        for wrong in [&["c"][..], &["c", "a"], &["a", "../c"], &["a", "c", "c"], &["a", "d"], &["a", "C"]] {
            assert!(judge(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_what_may_be_stored_is_kept() {
        assert_eq!(kept(StoragePolicy::Store, 1), Some(Retention::UntilDeleted));
        assert!(kept(StoragePolicy::DeliverOnce, 60).unwrap().until_ms().unwrap() > clock::now() + 50_000);
        assert_eq!(kept(StoragePolicy::KeepInMachine, 1), None);
        assert_eq!(kept(StoragePolicy::Forbidden, 1), None);
    }
}

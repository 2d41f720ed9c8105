//! Validates a delivery: it must be a credential of the session's provider, and the policy must allow to store it.

use crate::{api_error::ApiError, credentials, random, session::context::SessionContext, unix_time};
use anteroom_store::{CredentialRow, DeletionPolicy, NewCredential, SessionRow, UnixMs};
use anteroom_vault::{Binding, LockedBytes, SealedBytes};
use anteroom_wire::{
    Base64, CredentialId, Problem,
    agent::{CredentialDelivery, DeliveredFile},
    api::CredentialFile,
    provider::{AccountSource, CredentialRules, Provider, StoragePolicy},
};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Maximum number of files in one delivery.
pub const FILES_MAX: usize = 8;

/// A delivery that has passed validation.
pub(super) struct ValidatedDelivery {
    plaintext: LockedBytes,
    /// Its files without their content.
    pub(super) files: Vec<CredentialFile>,
    /// How long the credential is retained.
    pub(super) deletion_policy: DeletionPolicy,
    /// When the credential expires, as written in its file.
    pub(super) expires_at_ms: Option<UnixMs>,
    /// The account, as named in its file.
    pub(super) account: Option<String>,
}

/// The credential and revision that a delivery becomes.
pub(super) struct RevisionSlot {
    /// The credential.
    pub(super) credential: CredentialId,
    /// Its owner's id for the user.
    pub(super) user_id: Option<String>,
    /// The revision.
    pub(super) revision: u64,
}

impl RevisionSlot {
    /// The first revision of a new credential of the session.
    pub(super) fn first(row: &SessionRow) -> Self {
        Self { credential: random::random_id(CredentialId::from_parts), user_id: row.user_id.clone(), revision: 1 }
    }

    /// The revision after the present one.
    pub(super) fn after(row: &CredentialRow) -> Self {
        Self { credential: row.id.clone(), user_id: row.user_id.clone(), revision: row.revision + 1 }
    }
}

impl ValidatedDelivery {
    /// Validates a delivery.
    ///
    /// # Errors
    /// Another provider, an invalid format, or a policy that forbids storing it.
    pub(super) fn validate(
        context: &SessionContext,
        row: &SessionRow,
        delivery: &CredentialDelivery,
    ) -> Result<Self, ApiError> {
        let invalid = |detail: String| ApiError::new(Problem::InvalidCredentialFormat, detail);
        if delivery.provider != row.provider {
            return Err(invalid(format!("the session is for {}", row.provider)));
        }
        let provider =
            context.providers().resolved(&row.provider, row.method.as_ref()).ok_or(Problem::UnknownProvider)?;
        let deletion_policy =
            deletion_policy_of(provider.storage_policy, context.config().credentials.deliver_once_s_max)
                .ok_or_else(|| ApiError::new(Problem::ForbiddenByPolicy, provider.storage_policy.sentence()))?;
        let first = delivery.files.first().ok_or_else(|| invalid("no file".into()))?;
        check_paths(&provider.credential, &delivery.files).map_err(|error| invalid(error.to_string()))?;
        provider.credential.check_format(first.content.expose()).map_err(|error| invalid(error.to_string()))?;
        let expires_at_ms = credentials::read_expires_at(&provider.credential, first.content.expose());
        let account = account_of(&provider.credential, &delivery.files);
        // Permission bits only: a leased file must not carry a set-user-id bit.
        let mut files: Vec<DeliveredFile> = delivery
            .files
            .iter()
            .filter(|file| is_stored(&provider.credential, &file.path))
            .map(|file| DeliveredFile { mode: file.mode & 0o777, ..file.clone() })
            .collect();
        add_settings(&mut files, &provider, &row.settings);
        let json = Zeroizing::new(serde_json::to_vec(&files).map_err(ApiError::internal)?);
        let plaintext = LockedBytes::copy_of(&json).map_err(ApiError::internal)?;
        credentials::warn_unless_locked(&plaintext);
        Ok(Self { plaintext, files: files.iter().map(describe).collect(), deletion_policy, expires_at_ms, account })
    }

    /// Encrypts the delivery for the session.
    ///
    /// # Errors
    /// [`Problem::Internal`].
    pub(super) fn seal(
        &self,
        context: &SessionContext,
        row: &SessionRow,
        slot: &RevisionSlot,
    ) -> Result<SealedBytes, ApiError> {
        let binding = Binding {
            credential: &slot.credential,
            owner: &row.owner,
            user_id: slot.user_id.as_deref(),
            provider: &row.provider,
            session: &row.id,
            revision: slot.revision,
        };
        context.vault.seal(&binding, &self.plaintext).map_err(ApiError::internal)
    }

    /// The sealed delivery as this revision of a credential.
    pub(super) fn sealed_as<'a>(
        &'a self,
        id: &'a CredentialId,
        revision: u64,
        sealed: &'a SealedBytes,
    ) -> NewCredential<'a> {
        NewCredential {
            id,
            sealed,
            revision,
            files: &self.files,
            deletion_policy: self.deletion_policy,
            expires_at_ms: self.expires_at_ms,
            account: self.account.as_deref(),
        }
    }

    /// Whether the delivery may be of the credential's account: one of them is not known, or they are equal without regard to case.
    pub(super) fn is_account_of(&self, credential: &CredentialRow) -> bool {
        match (&self.account, &credential.account) {
            (Some(new), Some(old)) => new.to_lowercase() == old.to_lowercase(),
            _ => true,
        }
    }

    /// Whether the bytes are equal to those delivered.
    pub(super) fn has_bytes(&self, bytes: &[u8]) -> bool {
        *self.plaintext == *bytes
    }
}

/// Adds the files of the settings with which the tool has signed in, unless the tool has changed and delivered them: an agent delivers no
/// file that is older than the sign-in.
fn add_settings(files: &mut Vec<DeliveredFile>, provider: &Provider, values: &BTreeMap<String, String>) {
    for setting in &provider.settings {
        let is_delivered = files.iter().any(|file| file.path == setting.file.path);
        if let Some(value) = values.get(&setting.id).filter(|_| !is_delivered) {
            let content = Base64::new(setting.file_content(value).into_bytes());
            files.push(DeliveredFile { path: setting.file.path.clone(), mode: 0o600, content });
        }
    }
}

/// How long the policy allows a credential to be retained; `None`: it may not be stored.
fn deletion_policy_of(policy: StoragePolicy, deliver_once_s_max: u64) -> Option<DeletionPolicy> {
    match policy {
        StoragePolicy::Store => Some(DeletionPolicy::ByOwner),
        StoragePolicy::DeliverOnce => Some(DeletionPolicy::AfterDelivery {
            until_ms: unix_time::now_unix_ms() + deliver_once_s_max.saturating_mul(1_000),
        }),
        StoragePolicy::KeepInMachine | StoragePolicy::Forbidden => None,
    }
}

/// What is wrong with the paths of a delivery. Files are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("more than {FILES_MAX} files")]
    TooManyFiles,
    #[error("the path of file {0} is not listed by the provider")]
    NotListed(usize),
    #[error("file {0} is a duplicate")]
    Duplicate(usize),
}

/// Checks the paths: clients that lease the credential write the files to them, so only the paths of the provider are allowed, each
/// once. The first file is the credential; companions follow.
pub(crate) fn check_paths(rules: &CredentialRules, files: &[DeliveredFile]) -> Result<(), PathError> {
    if files.len() > FILES_MAX {
        return Err(PathError::TooManyFiles);
    }
    for (at, file) in files.iter().enumerate() {
        let is_companion = || is_stored(rules, &file.path) || other_path(rules) == Some(&file.path);
        let is_allowed = rules.paths.contains(&file.path) || (at > 0 && is_companion());
        if !is_allowed {
            return Err(PathError::NotListed(at + 1));
        }
        if files[..at].iter().any(|earlier| earlier.path == file.path) {
            return Err(PathError::Duplicate(at + 1));
        }
    }
    Ok(())
}

/// The path of the file that only names the account.
fn other_path(rules: &CredentialRules) -> Option<&str> {
    rules.account.as_ref().and_then(AccountSource::other_path)
}

/// Whether a file is part of the credential. A file that only names the account is not kept.
fn is_stored(rules: &CredentialRules, path: &String) -> bool {
    rules.paths.contains(path) || rules.companions.contains(path)
}

/// The account that these files name.
fn account_of(rules: &CredentialRules, files: &[DeliveredFile]) -> Option<String> {
    let source = rules.account.as_ref()?;
    let (first, others) = files.split_first()?;
    let Some(path) = source.other_path() else { return source.read_from(first.content.expose()) };
    let name = source.read_from(others.iter().find(|file| file.path == path)?.content.expose())?;
    // The machine chose both files: a text that the credential has as well could be a token.
    let has_name = |bytes: &[u8]| bytes.windows(name.len()).any(|part| part == name.as_bytes());
    (!has_name(first.content.expose())).then_some(name)
}

fn describe(file: &DeliveredFile) -> CredentialFile {
    CredentialFile { path: file.path.clone(), bytes: file.content.expose().len() as u64, mode: file.mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companion_files_follow_the_credential_and_every_path_is_listed_by_the_provider() {
        let rules = CredentialRules {
            paths: vec!["a".into(), "b".into()],
            companions: vec!["c".into()],
            ..CredentialRules::default()
        };
        let check = |paths_of: &[&str]| {
            let file = |path: &&str| DeliveredFile { path: (*path).into(), mode: 0o600, content: Base64::new(vec![1]) };
            check_paths(&rules, &paths_of.iter().map(file).collect::<Vec<_>>())
        };
        for good in [&["a"][..], &["b"], &["a", "c"], &["b", "c", "a"]] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for invalid in [&["c"][..], &["c", "a"], &["a", "../c"], &["a", "c", "c"], &["a", "d"], &["a", "C"]] {
            assert!(check(invalid).is_err(), "{invalid:?}");
        }
    }

    #[test]
    fn account_in_another_file_is_named_by_it_and_no_token_is_taken_for_it() {
        let account = AccountSource::OtherFile { path: "d".into(), pointer: "/mail".into() };
        let rules = CredentialRules { paths: vec!["a".into()], account: Some(account), ..CredentialRules::default() };
        let file = |path: &str, content: &str| DeliveredFile {
            path: path.into(),
            mode: 0o600,
            content: Base64::new(content.as_bytes().to_vec()),
        };
        let token = file("a", r#"{"token":"s3cret-s3cret-s3cret"}"#);
        let named = [token.clone(), file("d", r#"{"mail":"ada@example.test"}"#)];
        assert_eq!(check_paths(&rules, &named), Ok(()));
        assert_eq!(account_of(&rules, &named).as_deref(), Some("ada@example.test"));
        assert!(is_stored(&rules, &"a".to_owned()) && !is_stored(&rules, &"d".to_owned()));
        for other in [r#"{"mail":"s3cret-s3cret"}"#, r#"{"mail":7}"#, "{}", "no JSON"] {
            assert_eq!(account_of(&rules, &[token.clone(), file("d", other)]), None, "{other}");
        }
        assert_eq!(account_of(&rules, &[token]), None);
        assert!(check_paths(&rules, &[file("d", "{}")]).is_err(), "it is not the credential");
    }

    #[test]
    fn only_storable_policies_have_a_deletion_policy() {
        assert_eq!(deletion_policy_of(StoragePolicy::Store, 1), Some(DeletionPolicy::ByOwner));
        assert!(
            deletion_policy_of(StoragePolicy::DeliverOnce, 60).unwrap().until_ms().unwrap()
                > unix_time::now_unix_ms() + 50_000
        );
        assert_eq!(deletion_policy_of(StoragePolicy::KeepInMachine, 1), None);
        assert_eq!(deletion_policy_of(StoragePolicy::Forbidden, 1), None);
    }
}

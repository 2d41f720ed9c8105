//! What a session is for: signing in, or using what was signed in to before.

use crate::{StoreError, row::RowReader, text_enum::text_enum};
use anteroom_wire::{CredentialId, agent::UsePurpose};

text_enum! {
    /// A purpose as the database has it.
    pub(crate) enum PurposeKind {
        /// Somebody signs in.
        SignIn = "sign_in",
        /// A command of the owner's.
        Exec = "exec",
        /// The tool's own status command.
        Check = "check",
        /// The tool's own sign-out.
        Logout = "logout",
    }
}

/// What a session is for. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionPurpose {
    /// Somebody signs in.
    SignIn {
        /// The credential that keeps its id and gets the new bytes; `None`: a new one.
        renews: Option<CredentialId>,
    },
    /// A stored credential is used.
    UseCredential(CredentialUse),
}

/// A use of a stored credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialUse {
    /// What for.
    pub purpose: UsePurpose,
    /// Which.
    pub credential: CredentialId,
    /// The revision of its bytes that lies in the machine: the one that was laid down, or delivered from there since.
    pub revision: u64,
}

impl Default for SessionPurpose {
    /// A sign-in for a new credential.
    fn default() -> Self {
        Self::SignIn { renews: None }
    }
}

impl SessionPurpose {
    /// The use, if it is one.
    pub fn credential_use(&self) -> Option<&CredentialUse> {
        match self {
            Self::SignIn { .. } => None,
            Self::UseCredential(using) => Some(using),
        }
    }

    /// The credential that is signed in for again, if there is one.
    pub fn renews(&self) -> Option<&CredentialId> {
        match self {
            Self::SignIn { renews } => renews.as_ref(),
            Self::UseCredential(_) => None,
        }
    }

    /// The word of it.
    pub(crate) fn kind(&self) -> PurposeKind {
        match self {
            Self::SignIn { .. } => PurposeKind::SignIn,
            Self::UseCredential(using) => match using.purpose {
                UsePurpose::Exec => PurposeKind::Exec,
                UsePurpose::Check => PurposeKind::Check,
                UsePurpose::Logout => PurposeKind::Logout,
            },
        }
    }

    /// Reads it off a session's row.
    pub(crate) fn decode(reader: &RowReader<'_>) -> Result<Self, StoreError> {
        let purpose = match reader.parsed("purpose")? {
            PurposeKind::SignIn => None,
            PurposeKind::Exec => Some(UsePurpose::Exec),
            PurposeKind::Check => Some(UsePurpose::Check),
            PurposeKind::Logout => Some(UsePurpose::Logout),
        };
        let renews = reader.parsed_or_null("renewed_credential_id")?;
        let used = (reader.parsed_or_null("used_credential_id")?, reader.number_or_null("used_revision")?);
        match (purpose, renews, used) {
            (None, renews, (None, None)) => Ok(Self::SignIn { renews }),
            (Some(purpose), None, (Some(credential), Some(revision))) => {
                Ok(Self::UseCredential(CredentialUse { purpose, credential, revision }))
            }
            (None, _, _) => Err(reader.corrupt("a sign-in that uses a credential")),
            (Some(_), _, _) => Err(reader.corrupt("a use of no credential, or a renewal too")),
        }
    }
}

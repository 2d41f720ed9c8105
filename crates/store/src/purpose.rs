//! The purpose of a session: signing in, or using a stored credential.

use crate::{StoreError, row_reader::RowReader, text_enum::text_enum};
use anteroom_wire::{CredentialId, agent::UsePurpose};

text_enum! {
    /// The kind of purpose in the database.
    pub(crate) enum PurposeKind {
        /// A sign-in.
        SignIn = "sign_in",
        /// A command of the owner.
        Exec = "exec",
        /// The tool's status command.
        Check = "check",
        /// The tool's sign-out command.
        Logout = "logout",
    }
}

/// The purpose of a session. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionPurpose {
    /// A sign-in.
    SignIn {
        /// The credential that is renewed: it keeps its id and gets the new bytes; `None`: a new credential.
        renews: Option<CredentialId>,
    },
    /// The use of a stored credential.
    UseCredential(CredentialUse),
}

/// The use of a stored credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialUse {
    /// What it is used for.
    pub purpose: UsePurpose,
    /// The credential.
    pub credential: CredentialId,
    /// The revision in the machine: the one that was installed, or the last one delivered from there.
    pub revision: u64,
}

impl Default for SessionPurpose {
    /// A sign-in for a new credential.
    fn default() -> Self {
        Self::SignIn { renews: None }
    }
}

impl SessionPurpose {
    /// The use of a credential, if that is the purpose.
    pub fn credential_use(&self) -> Option<&CredentialUse> {
        match self {
            Self::SignIn { .. } => None,
            Self::UseCredential(using) => Some(using),
        }
    }

    /// The credential that is renewed, if any.
    pub fn renewed_credential(&self) -> Option<&CredentialId> {
        match self {
            Self::SignIn { renews } => renews.as_ref(),
            Self::UseCredential(_) => None,
        }
    }

    /// The kind in the database.
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

    /// Reads the purpose from a session's row.
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
            (None, _, _) => Err(reader.corrupt_row_error("a sign-in that uses a credential")),
            (Some(_), _, _) => {
                Err(reader.corrupt_row_error("a credential use without a credential, or with a renewal"))
            }
        }
    }
}

//! What a session is for: signing in, or using what was signed in to before.

use crate::{StoreError, cells::Cells, words::words};
use anteroom_wire::{CredentialId, agent::UsePurpose};

words! {
    /// A purpose as the database has it.
    pub(crate) enum PurposeWord {
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
pub enum Aim {
    /// Somebody signs in.
    SignIn {
        /// The credential that keeps its id and gets the new bytes; `None`: a new one.
        renews: Option<CredentialId>,
    },
    /// A stored credential is used.
    Use(CredentialUse),
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

impl Default for Aim {
    /// A sign-in for a new credential.
    fn default() -> Self {
        Self::SignIn { renews: None }
    }
}

impl Aim {
    /// The use, if it is one.
    pub fn uses(&self) -> Option<&CredentialUse> {
        match self {
            Self::SignIn { .. } => None,
            Self::Use(using) => Some(using),
        }
    }

    /// The credential that is signed in for again, if there is one.
    pub fn renews(&self) -> Option<&CredentialId> {
        match self {
            Self::SignIn { renews } => renews.as_ref(),
            Self::Use(_) => None,
        }
    }

    /// The word of it.
    pub(crate) fn word(&self) -> PurposeWord {
        match self {
            Self::SignIn { .. } => PurposeWord::SignIn,
            Self::Use(using) => match using.purpose {
                UsePurpose::Exec => PurposeWord::Exec,
                UsePurpose::Check => PurposeWord::Check,
                UsePurpose::Logout => PurposeWord::Logout,
            },
        }
    }

    /// Reads it off a session's row.
    pub(crate) fn decode(cells: &Cells<'_>) -> Result<Self, StoreError> {
        let purpose = match cells.parsed("purpose")? {
            PurposeWord::SignIn => None,
            PurposeWord::Exec => Some(UsePurpose::Exec),
            PurposeWord::Check => Some(UsePurpose::Check),
            PurposeWord::Logout => Some(UsePurpose::Logout),
        };
        let renews = cells.parsed_or_null("renews_credential")?;
        let used = (cells.parsed_or_null("uses_credential")?, cells.number_or_null("uses_revision")?);
        match (purpose, renews, used) {
            (None, renews, (None, None)) => Ok(Self::SignIn { renews }),
            (Some(purpose), None, (Some(credential), Some(revision))) => {
                Ok(Self::Use(CredentialUse { purpose, credential, revision }))
            }
            (None, _, _) => Err(cells.impossible("a sign-in that uses a credential")),
            (Some(_), _, _) => Err(cells.impossible("a use of no credential, or a renewal too")),
        }
    }
}

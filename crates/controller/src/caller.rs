//! A caller of the API and what it may use.
//!
//! | caller | may use |
//! |---|---|
//! | operator | everything |
//! | backend | the sessions that it started |
//! | viewer | one session, but not its credential |

use crate::api_error::ApiError;
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{CallerId, Problem};

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The caller's id.
    pub id: CallerId,
    /// The caller's role.
    pub role: Role,
}

impl Caller {
    /// Requires that the caller may see and use the session.
    ///
    /// # Errors
    /// It belongs to another caller.
    pub fn require_session_access(&self, row: &SessionRow) -> Result<(), ApiError> {
        let is_allowed = match &self.role {
            Role::Operator => true,
            Role::Backend => row.owner == self.id,
            Role::Viewer(session) => *session == row.id,
        };
        if is_allowed { Ok(()) } else { Err(Problem::NotOwner.into()) }
    }

    /// Requires that the caller may see everything that `owner` owns, including secrets.
    ///
    /// # Errors
    /// The caller may not.
    pub fn require_ownership(&self, owner: &CallerId) -> Result<(), ApiError> {
        let is_allowed = match &self.role {
            Role::Operator => true,
            Role::Backend => owner == &self.id,
            Role::Viewer(_) => false,
        };
        if is_allowed { Ok(()) } else { Err(Problem::NotOwner.into()) }
    }

    /// Requires that the caller may start and list sessions.
    ///
    /// # Errors
    /// The caller is a viewer.
    pub fn require_not_viewer(&self) -> Result<(), ApiError> {
        match &self.role {
            Role::Operator | Role::Backend => Ok(()),
            Role::Viewer(_) => {
                Err(ApiError::new(Problem::NotOwner, "this login link gives access to one session only"))
            }
        }
    }

    /// Requires that the caller is an operator.
    ///
    /// # Errors
    /// The caller is not an operator.
    pub fn require_operator(&self) -> Result<(), ApiError> {
        match &self.role {
            Role::Operator => Ok(()),
            Role::Backend | Role::Viewer(_) => Err(ApiError::new(Problem::NotOwner, "only an operator may do this")),
        }
    }
}

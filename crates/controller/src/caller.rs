//! A caller of the API, and [`permits`]: the one place that decides what callers may do.
//!
//! The [`Action`]s of a request are fixed by its route; the resource is known once its row was read. A caller is permitted an action if
//! its role has it, its scopes include those of the action, and the resource belongs to it.

use crate::api_error::ApiError;
use anteroom_store::{CallerKind, CallerRow, CredentialRow, OwnerFilter, Role, SessionRow};
use anteroom_wire::{CallerId, Problem, Scope, Scopes, SessionId};

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The caller's id.
    pub id: CallerId,
    /// What authenticated it.
    pub kind: CallerKind,
    /// Its role.
    pub role: Role,
    /// Its name, for people.
    pub name: String,
    /// Its scopes.
    pub scopes: Scopes,
    /// The id under which its sessions and credentials are stored. A rotated token keeps that of its predecessor.
    pub account: CallerId,
}

impl From<CallerRow> for Caller {
    fn from(row: CallerRow) -> Self {
        let CallerRow { id, kind, role, name, scopes, account, .. } = row;
        Self { id, kind, role, name, scopes, account }
    }
}

macro_rules! actions {
    ($( $(#[$doc:meta])* $name:ident: [$($scope:ident),*]; )*) => {
        /// What a request does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $( $(#[$doc])* $name, )* }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The scopes that a caller needs.
            pub fn scopes(self) -> &'static [Scope] { match self { $( Self::$name => &[$(Scope::$scope),*], )* } }
        }
    };
}

actions! {
    /// Read the own role.
    ReadSelf: [];
    /// List the providers.
    ListProviders: [];
    /// Read each check of the server's health.
    ReadHealth: [];
    /// Start a sign-in session.
    StartSession: [Start];
    /// List sessions.
    ListSessions: [Read];
    /// Read a session: its state, timeline, diagnosis and the metadata of its credential.
    ReadSession: [Read];
    /// Look at a session's desktop.
    ViewDesktop: [Read];
    /// Read a session's terminal as text.
    ReadScreen: [Read];
    /// Act in a session: keep it active, type, paste, choose the method, cancel, restart, use its desktop and terminal.
    ControlSession: [Start];
    /// List the helpers of a session.
    ListHelpers: [Read];
    /// Create another link for the person of a session.
    CreateSessionLink: [Start];
    /// List credentials or read the metadata of one.
    ReadCredential: [Read];
    /// Run a command with a stored credential. The command can read the credential.
    UseCredential: [Start, Lease];
    /// Get the files of a stored credential.
    LeaseCredential: [Lease];
    /// Delete a stored credential.
    DeleteCredential: [Lease];
    /// Create login links of operators, support bundles; reconcile; read reports.
    OperateServer: [Operate];
    /// Create, rotate and revoke API tokens.
    ManageTokens: [Operate];
    /// List API tokens.
    ListTokens: [Audit];
    /// Read the metrics.
    ReadMetrics: [Metrics];
    /// Read the audit log.
    ReadAudit: [Audit];
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The server, or all resources of the caller.
    Server,
    /// A session.
    Session {
        /// Its id.
        id: &'a SessionId,
        /// The account that started it.
        owner: &'a CallerId,
    },
    /// A stored credential.
    Credential {
        /// The account that owns it.
        owner: &'a CallerId,
    },
}

impl<'a> From<&'a SessionRow> for Resource<'a> {
    fn from(row: &'a SessionRow) -> Self {
        Self::Session { id: &row.id, owner: &row.owner }
    }
}

impl<'a> From<&'a CredentialRow> for Resource<'a> {
    fn from(row: &'a CredentialRow) -> Self {
        Self::Credential { owner: &row.owner }
    }
}

/// Why a caller may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The resource belongs to another caller.
    NotOwner,
    /// No caller of this role may do it.
    Role,
    /// The caller's token lacks this scope.
    MissingScope(Scope),
}

/// Decides whether the caller may do `action` to `resource`.
///
/// # Errors
/// The reason why it may not.
pub fn permits(caller: &Caller, action: Action, resource: Resource<'_>) -> Result<(), Denial> {
    if !role_permits(&caller.role, action) {
        return Err(Denial::Role);
    }
    if let Some(missing) = action.scopes().iter().copied().find(|scope| !caller.scopes.contains(*scope)) {
        return Err(Denial::MissingScope(missing));
    }
    let is_own = match (&caller.role, resource) {
        (Role::Operator, _) | (_, Resource::Server) => true,
        (Role::Backend | Role::User, Resource::Session { owner, .. } | Resource::Credential { owner }) => {
            *owner == caller.account
        }
        (Role::Viewer(session) | Role::Helper(session), Resource::Session { id, .. }) => session == id,
        (Role::Viewer(_) | Role::Helper(_), Resource::Credential { .. })
        | (Role::Auditor, Resource::Session { .. } | Resource::Credential { .. }) => false,
    };
    if is_own { Ok(()) } else { Err(Denial::NotOwner) }
}

/// The actions of each role, to the resources that [`permits`] allows it.
fn role_permits(role: &Role, action: Action) -> bool {
    use Action::{
        ControlSession, CreateSessionLink, DeleteCredential, LeaseCredential, ListHelpers, ListProviders, ListSessions,
        ListTokens, ManageTokens, OperateServer, ReadAudit, ReadCredential, ReadHealth, ReadMetrics, ReadScreen,
        ReadSelf, ReadSession, StartSession, UseCredential, ViewDesktop,
    };
    match action {
        ReadSelf | ReadHealth | ListProviders => true,
        ListSessions | ReadSession | ViewDesktop => {
            matches!(role, Role::Operator | Role::Backend | Role::User | Role::Viewer(_) | Role::Helper(_))
        }
        ControlSession | ReadScreen | ListHelpers => {
            matches!(role, Role::Operator | Role::Backend | Role::User | Role::Viewer(_))
        }
        CreateSessionLink => matches!(role, Role::Operator | Role::Backend),
        StartSession | ReadCredential | UseCredential | LeaseCredential | DeleteCredential => {
            matches!(role, Role::Operator | Role::Backend | Role::User)
        }
        OperateServer | ManageTokens => matches!(role, Role::Operator),
        ListTokens | ReadMetrics | ReadAudit => matches!(role, Role::Operator | Role::Auditor),
    }
}

/// The name of an operator who signed in with a link.
pub const OPERATOR_NAME: &str = "operator";

/// The id of the operator at this host's command line.
pub fn command_line_id() -> CallerId {
    CallerId::from_parts(0, [0; 10])
}

/// The name of the operator at this host's command line.
pub const COMMAND_LINE_NAME: &str = "this host's command line";

impl Caller {
    /// The operator at this host's command line, whom the Unix socket or the lock of the state directory authenticates.
    pub fn command_line() -> Self {
        Self {
            id: command_line_id(),
            kind: CallerKind::LocalSocket,
            role: Role::Operator,
            name: COMMAND_LINE_NAME.to_owned(),
            scopes: Role::Operator.scopes(),
            account: command_line_id(),
        }
    }

    /// Requires that the caller may do `action` to `resource`, as [`permits`] decides.
    ///
    /// # Errors
    /// The caller may not.
    pub fn require<'a>(&self, action: Action, resource: impl Into<Resource<'a>>) -> Result<(), ApiError> {
        permits(self, action, resource.into()).map_err(|denial| match denial {
            Denial::NotOwner => Problem::NotOwner.into(),
            Denial::Role => {
                ApiError::new(Problem::NotOwner, format!("the role {} does not permit this", self.role.as_str()))
            }
            Denial::MissingScope(scope) => {
                ApiError::new(Problem::MissingScope, format!("the scope {scope} is required"))
            }
        })
    }

    /// The sessions or credentials that a list for this caller contains.
    pub fn owner_filter(&self) -> OwnerFilter<'_> {
        match self.role {
            Role::Operator => OwnerFilter::All,
            Role::Auditor | Role::Backend | Role::User | Role::Viewer(_) | Role::Helper(_) => {
                OwnerFilter::Owner(&self.account)
            }
        }
    }
}

#[cfg(test)]
mod tests;

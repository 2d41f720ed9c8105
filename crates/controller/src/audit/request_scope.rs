//! Who makes the current request, and what it concerns.

use anteroom_audit::{Action, Actor, Entry, Subject};
use anteroom_store::{Role, SessionRow};
use anteroom_wire::{CallerId, CredentialId};
use std::{cell::RefCell, collections::BTreeMap};

tokio::task_local! {
    static CURRENT: RefCell<RequestScope>;
}

/// The current request: who makes it, and what is known about what it does.
#[derive(Debug, Clone)]
pub struct RequestScope {
    /// The caller.
    pub actor: Actor,
    /// From where.
    pub peer: Option<String>,
    /// The id of the request.
    pub request: String,
    /// To what.
    pub subject: Subject,
    /// More about it.
    pub details: BTreeMap<String, String>,
    /// What it does, if its route does not decide that.
    pub action: Option<Action>,
}

impl RequestScope {
    /// Runs a request in this scope. Returns the scope with what the request has noted.
    pub async fn run<T>(self, request: impl Future<Output = T>) -> (T, Self) {
        CURRENT
            .scope(RefCell::new(self), async {
                let response = request.await;
                (response, CURRENT.with(|scope| scope.borrow().clone()))
            })
            .await
    }

    /// The current request's scope, for a task that goes on after it.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|scope| scope.borrow().clone()).ok()
    }

    /// An entry about the request.
    pub fn entry(self, action: Action, outcome: &str) -> Entry {
        let Self { actor, peer, request, subject, details, action: _ } = self;
        let request = Some(request);
        Entry { action, outcome: outcome.to_owned(), actor, peer, subject, request, count: 1, details }
    }

    /// An entry about the current request, or about the server outside of requests.
    pub(super) fn current_entry(action: Action) -> Entry {
        match Self::current() {
            Some(scope) => scope.entry(action, anteroom_audit::OK),
            None => Entry::new(action),
        }
    }
}

fn note(change: impl FnOnce(&mut RequestScope)) {
    // Outside of a request there is nothing to note it for.
    let _ = CURRENT.try_with(|scope| change(&mut scope.borrow_mut()));
}

/// Notes the caller of the current request, and how it was identified.
pub fn note_actor(kind: &str, id: &CallerId, role: Option<&Role>) {
    let (id, role) = (Some(id.to_string()), role.map(|role| role.as_str().to_owned()));
    note(|scope| scope.actor = Actor { id, kind: kind.to_owned(), role, name: None });
}

/// Notes that the current request comes from the agent of this session's machine.
pub fn note_agent(row: &SessionRow) {
    let id = row.machine.as_ref().map(ToString::to_string);
    note(|scope| scope.actor = Actor { id, kind: "agent".to_owned(), ..Actor::default() });
    note_session(row);
}

/// Notes from where the current request comes.
pub fn note_peer(peer: impl ToString) {
    note(|scope| scope.peer = Some(peer.to_string()));
}

/// Notes the session that the current request concerns, with its user.
pub fn note_session(row: &SessionRow) {
    note(|scope| {
        scope.subject.session = Some(row.id.to_string());
        scope.subject.user.clone_from(&row.user_id);
    });
}

/// Notes the credential that the current request concerns.
pub fn note_credential(id: &CredentialId) {
    note(|scope| scope.subject.credential = Some(id.to_string()));
}

/// Notes the user that the current request concerns.
pub fn note_user(user: Option<&str>) {
    note(|scope| scope.subject.user = user.map(str::to_owned));
}

/// Notes the caller that the current request concerns, such as the owner of a new token.
pub fn note_caller(id: &CallerId) {
    note(|scope| scope.subject.caller = Some(id.to_string()));
}

/// Notes the person whom the identity provider names for the current request.
pub fn note_person(issuer: &str, subject: &str) {
    note_detail("issuer", issuer);
    note_detail("subject", subject);
}

/// Notes what the current request does, if its route does not decide that.
pub fn note_action(action: Action) {
    note(|scope| scope.action = Some(action));
}

/// Notes a detail of what the current request does; never a secret or what a person typed.
pub fn note_detail(name: &str, value: impl ToString) {
    note(|scope| _ = scope.details.insert(name.to_owned(), value.to_string()));
}

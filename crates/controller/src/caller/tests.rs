//! The matrix of roles and actions, and the rules of scopes and ownership.

use super::*;

fn id(number: u8) -> CallerId {
    CallerId::from_parts(1, [number; 10])
}

fn caller(role: Role) -> Caller {
    let kind = if role.session().is_some() { CallerKind::ViewerCookie } else { CallerKind::ApiToken };
    Caller { id: id(1), kind, scopes: role.scopes(), role, name: String::new(), account: id(1) }
}

fn session(number: u8) -> SessionId {
    SessionId::from_parts(1, [number; 10])
}

fn roles() -> [Role; 6] {
    [Role::Operator, Role::Auditor, Role::Backend, Role::User, Role::Viewer(session(1)), Role::Helper(session(1))]
}

/// One row for each action, one column for each role in the order of [`roles`].
const MATRIX: &[(Action, &str)] = &[
    (Action::ReadSelf, "yes yes yes yes yes yes"),
    (Action::ListProviders, "yes yes yes yes yes yes"),
    (Action::ReadHealth, "yes yes yes yes yes yes"),
    (Action::StartSession, "yes - yes yes - -"),
    (Action::ListSessions, "yes - yes yes yes yes"),
    (Action::ReadSession, "yes - yes yes yes yes"),
    (Action::ViewDesktop, "yes - yes yes yes yes"),
    (Action::ReadScreen, "yes - yes yes yes -"),
    (Action::ControlSession, "yes - yes yes yes -"),
    (Action::ListHelpers, "yes - yes yes yes -"),
    (Action::CreateSessionLink, "yes - yes - - -"),
    (Action::ReadCredential, "yes - yes yes - -"),
    (Action::UseCredential, "yes - yes yes - -"),
    (Action::LeaseCredential, "yes - yes yes - -"),
    (Action::DeleteCredential, "yes - yes yes - -"),
    (Action::OperateServer, "yes - - - - -"),
    (Action::ManageTokens, "yes - - - - -"),
    (Action::ListTokens, "yes yes - - - -"),
    (Action::ReadMetrics, "yes yes - - - -"),
    (Action::ReadAudit, "yes yes - - - -"),
];

#[test]
fn every_role_has_exactly_the_actions_of_the_matrix() {
    let listed: Vec<_> = MATRIX.iter().map(|(action, _)| *action).collect();
    assert_eq!(listed, Action::ALL);
    for (action, columns) in MATRIX {
        let columns: Vec<_> = columns.split(' ').collect();
        assert_eq!(columns.len(), roles().len());
        for (role, column) in roles().into_iter().zip(columns) {
            let expected = if column == "yes" { Ok(()) } else { Err(Denial::Role) };
            assert_eq!(permits(&caller(role.clone()), *action, Resource::Server), expected, "{role:?} {action:?}");
        }
    }
}

#[test]
fn every_action_needs_its_scopes() {
    for action in Action::ALL.iter().copied() {
        for missing in action.scopes().iter().copied() {
            let mut operator = caller(Role::Operator);
            operator.scopes = Scope::ALL.iter().copied().filter(|scope| *scope != missing).collect();
            assert_eq!(permits(&operator, action, Resource::Server), Err(Denial::MissingScope(missing)), "{action:?}");
        }
        let mut operator = caller(Role::Operator);
        operator.scopes = action.scopes().iter().copied().collect();
        assert_eq!(permits(&operator, action, Resource::Server), Ok(()), "{action:?}");
    }
}

#[test]
fn only_operators_reach_the_resources_of_others() {
    let (own, other) = (session(1), session(2));
    for (id, owner, is_own) in [(&own, &id(1), true), (&other, &id(2), false)] {
        for role in roles() {
            let permitted =
                permits(&caller(role.clone()), Action::ReadSession, Resource::Session { id, owner }).is_ok();
            let expected = role == Role::Operator || (is_own && role != Role::Auditor);
            assert_eq!(permitted, expected, "{role:?} {id}");
            let permitted = permits(&caller(role.clone()), Action::LeaseCredential, Resource::Credential { owner });
            let expected = role == Role::Operator || (is_own && matches!(role, Role::Backend | Role::User));
            assert_eq!(permitted.is_ok(), expected, "{role:?} {owner}");
        }
    }
    // A rotated token has another id and the same account.
    let successor = Caller { id: id(9), ..caller(Role::Backend) };
    assert_eq!(permits(&successor, Action::ReadSession, Resource::Session { id: &own, owner: &id(1) }), Ok(()));
}

//! What is recorded for which route: the one place where a route names its action.

use anteroom_audit::Action;
use axum::http::Method;

/// The routes whose requests are recorded: method, path and action. A test compares them with the OpenAPI document.
pub(super) const AUDITED_ROUTES: &[(Method, &str, Action)] = &[
    (Method::POST, "/api/auth/start", Action::SessionStart),
    (Method::POST, "/api/auth/session/{id}/cancel", Action::SessionCancel),
    (Method::POST, "/api/auth/session/{id}/restart", Action::SessionRestart),
    (Method::POST, "/api/auth/session/{id}/method", Action::SessionMethod),
    (Method::POST, "/api/auth/session/{id}/consent", Action::SessionConsent),
    (Method::POST, "/api/auth/session/{id}/ticket", Action::TicketCreate),
    (Method::POST, "/api/auth/session/{id}/open-url", Action::InputOpenUrl),
    (Method::POST, "/api/auth/session/{id}/paste", Action::InputPaste),
    (Method::POST, "/api/auth/session/{id}/code", Action::InputPaste),
    (Method::POST, "/api/auth/session/{id}/type", Action::InputType),
    (Method::GET, "/api/auth/session/{id}/screen", Action::ScreenRead),
    (Method::GET, "/api/auth/session/{id}/oauth-url", Action::SignInUrlRead),
    (Method::POST, "/api/auth/session/{id}/bundle", Action::BundleCreate),
    (Method::POST, "/api/auth/credentials/store", Action::CredentialStore),
    (Method::POST, "/api/credentials/{id}/lease", Action::CredentialLease),
    (Method::POST, "/api/credentials/{id}/use", Action::CredentialUse),
    (Method::DELETE, "/api/credentials/{id}", Action::CredentialDelete),
    (Method::POST, "/api/login", Action::Login),
    (Method::POST, "/api/links", Action::LoginLinkCreate),
    (Method::POST, "/api/tokens", Action::TokenCreate),
    (Method::POST, "/api/tokens/{id}/rotate", Action::TokenRotate),
    (Method::POST, "/api/tokens/{id}/revoke", Action::TokenRevoke),
    (Method::POST, "/api/erase", Action::DataErase),
    (Method::POST, "/api/auth/session/{id}/invitations", Action::Invitation),
    (Method::POST, "/api/logout", Action::SignOut),
    (Method::DELETE, "/api/browsers/{id}", Action::SignOut),
    (Method::POST, "/api/keys/rotate", Action::KeyRotate),
    (Method::POST, "/api/keys/{id}/retire", Action::KeyRetire),
    (Method::GET, "/api/leaks", Action::LeaksList),
    (Method::POST, "/api/reconcile", Action::ReconcileRun),
    (Method::GET, "/api/audit", Action::AuditRead),
    (Method::GET, "/api/audit/verification", Action::AuditRead),
];

/// Routes that change something and are not recorded, with the reason.
#[cfg(test)]
pub(super) const UNRECORDED_ROUTES: &[(Method, &str, &str)] = &[
    (Method::POST, "/api/auth/session/{id}/heartbeat", "it only resets the idle timeout"),
    (
        Method::POST,
        "/api/agent/events",
        "what a machine reports is on its session's timeline, within that one's limits",
    ),
];

/// The action of a route.
pub(super) fn audited_action(method: &Method, path: &str) -> Option<Action> {
    AUDITED_ROUTES.iter().find(|(audited, route, _)| audited == method && *route == path).map(|(_, _, action)| *action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A new route of the API names its action here, or the reason why it has none.
    #[test]
    fn every_route_that_changes_something_has_an_audit_action() {
        let document = super::super::document_of_all_routes();
        let document = serde_json::to_value(&document).unwrap();
        let mut operations = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                operations.insert((method.to_uppercase(), path.clone()));
            }
        }
        assert!(operations.len() > 30, "{operations:?}");
        let listed = AUDITED_ROUTES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned()));
        let unrecorded = UNRECORDED_ROUTES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned()));
        let known: BTreeSet<_> = listed.chain(unrecorded).collect();
        let missing: Vec<_> =
            operations.iter().filter(|(method, _)| method != "GET").filter(|route| !known.contains(*route)).collect();
        assert!(missing.is_empty(), "routes without an audit action: {missing:?}");
        let obsolete: Vec<_> = known.difference(&operations).collect();
        assert!(obsolete.is_empty(), "routes that do not exist: {obsolete:?}");
        assert!(UNRECORDED_ROUTES.iter().all(|(_, _, reason)| !reason.is_empty()));
    }
}

//! The facts about each route: what it requires of its caller, what is recorded of it, and which rate limits it. A route that is not in
//! [`ROUTES`] answers as if it did not exist.

use super::rates::RouteClass::{self, Bundle, Change, Lease, Login, Read, Start, Stream, Ticket as TicketClass};
use Access::{Caller, Public};
use Recording::{Exempt, Recorded, Unrecorded};
use anteroom_audit::Action as Deed;
use anteroom_controller::caller::Action::{
    self, ControlSession, CreateSessionLink, DeleteCredential, LeaseCredential, ListHelpers, ListProviders,
    ListSessions, ListTokens, ManageTokens, OperateServer, ReadAudit, ReadCredential, ReadMetrics, ReadScreen,
    ReadSelf, ReadSession, StartSession, UseCredential, ViewDesktop,
};
use anteroom_controller::oidc::REDIRECT_PATH;
use axum::{
    extract::Request,
    http::{HeaderMap, Method, Uri, header},
};

/// What a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No caller, for this reason.
    Public(&'static str),
    /// A single-use ticket, which the handler redeems. A rejected WebSocket is accepted first, because a page can read the reason
    /// only from the close code.
    Ticket,
    /// A caller that may do this.
    Caller(Action),
}

/// Whether requests are recorded in the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    /// As this action.
    Recorded(Deed),
    /// They change nothing and reveal no secret.
    Unrecorded,
    /// They change or reveal something and are not recorded as requests, for this reason.
    Exempt(&'static str),
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its method; GET is HEAD, too.
    pub method: Method,
    /// The pattern of its path.
    pub path: &'static str,
    /// What it requires of its caller.
    pub access: Access,
    recording: Recording,
    class: RouteClass,
}

/// The action of a request, from its route. The extractors of resources require it of the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestedAction(pub Action);

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;
const DEMO: &str = "the identity provider of the demo, whose accounts give access to nothing";
const STATIC: &str = "static content without data";
pub(super) const AGENT: &str = "authenticated by the agent token";
const BEGINS: &str = "it only makes an address; what is finished is recorded";
const OVERALL: &str = "returns only the overall status without a caller";

const fn route(method: Method, path: &'static str, access: Access, recording: Recording, class: RouteClass) -> Route {
    Route { method, path, access, recording, class }
}

/// Every route.
pub const ROUTES: &[Route] = &[
    route(GET, "/", Public(STATIC), Unrecorded, Read),
    route(GET, "/login", Public(STATIC), Unrecorded, Read),
    route(GET, REDIRECT_PATH, Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard/remote-cli", Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard/remote-cli/auth", Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard", Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard/", Public(STATIC), Unrecorded, Read),
    route(GET, "/login/", Public(STATIC), Unrecorded, Read),
    route(GET, "/sign-in/callback/", Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard/remote-cli/", Public(STATIC), Unrecorded, Read),
    route(GET, "/dashboard/remote-cli/auth/", Public(STATIC), Unrecorded, Read),
    route(GET, "/admin", Public(STATIC), Unrecorded, Read),
    route(GET, "/admin/{*path}", Public(STATIC), Unrecorded, Read),
    // A navigation cannot send the key of the browser.
    route(GET, "/api/auth/session/{id}/novnc", Public(STATIC), Unrecorded, Read),
    route(GET, "/assets/{*path}", Public(STATIC), Unrecorded, Read),
    // Answered only with `--demo`.
    route(GET, "/demo/{*path}", Public(DEMO), Unrecorded, Read),
    route(POST, "/demo/{*path}", Public(DEMO), Exempt(DEMO), Login),
    route(GET, "/favicon.ico", Public(STATIC), Unrecorded, Read),
    route(GET, "/openapi.json", Public(STATIC), Unrecorded, Read),
    route(GET, "/health", Public(OVERALL), Unrecorded, Read),
    route(POST, "/api/login", Public("authenticated by a single-use login token"), Recorded(Deed::Login), Login),
    route(GET, "/api/oidc", Public("returns only public addresses of the identity provider"), Unrecorded, Read),
    route(POST, "/api/oidc/sign-in", Public("begins what the identity provider authenticates"), Exempt(BEGINS), Login),
    // The use case changes the action if a confirmation is finished.
    route(POST, "/api/oidc/callback", Public("authenticated by the identity provider"), Recorded(Deed::Login), Login),
    route(POST, "/api/auth/credentials/store", Public(AGENT), Recorded(Deed::CredentialStore), Change),
    route(POST, "/api/agent/events", Public(AGENT), Exempt("its session's timeline has it"), Change),
    route(GET, "/api/agent/session", Public(AGENT), Unrecorded, Read),
    route(
        GET,
        "/api/auth/session/{id}/novnc/websock",
        Access::Ticket,
        Exempt("the handler records each viewer"),
        TicketClass,
    ),
    route(
        GET,
        "/api/auth/session/{id}/terminal",
        Access::Ticket,
        Exempt("the handler records each viewer"),
        TicketClass,
    ),
    route(GET, "/api/auth/session/{id}/exec", Caller(UseCredential), Recorded(Deed::CredentialUse), TicketClass),
    route(GET, "/api/me", Caller(ReadSelf), Unrecorded, Read),
    // The handler permits only browsers that signed in with the identity provider.
    route(POST, "/api/oidc/confirm", Caller(ReadSelf), Exempt(BEGINS), Login),
    // The handlers permit only the caller's own browsers.
    route(GET, "/api/browsers", Caller(ReadSelf), Unrecorded, Read),
    route(DELETE, "/api/browsers/{id}", Caller(ReadSelf), Recorded(Deed::SignOut), Change),
    route(POST, "/api/logout", Caller(ReadSelf), Recorded(Deed::SignOut), Change),
    route(GET, "/api/providers", Caller(ListProviders), Unrecorded, Read),
    route(POST, "/api/auth/start", Caller(StartSession), Recorded(Deed::SessionStart), Start),
    route(GET, "/api/sessions", Caller(ListSessions), Unrecorded, Read),
    route(GET, "/api/sessions/events", Caller(ListSessions), Unrecorded, Stream),
    route(GET, "/api/overview", Caller(OperateServer), Unrecorded, Read),
    route(GET, "/api/machines", Caller(OperateServer), Unrecorded, Read),
    route(GET, "/api/egress/refused", Caller(OperateServer), Unrecorded, Read),
    route(GET, "/api/auth/session/{id}", Caller(ReadSession), Unrecorded, Read),
    route(GET, "/api/auth/session/{id}/events", Caller(ReadSession), Unrecorded, Stream),
    route(GET, "/api/auth/session/{id}/diagnosis", Caller(ReadSession), Unrecorded, Read),
    route(GET, "/api/auth/session/{id}/credentials", Caller(ReadSession), Unrecorded, Read),
    route(GET, "/api/auth/session/{id}/oauth-url", Caller(ReadSession), Recorded(Deed::SignInUrlRead), Read),
    route(GET, "/api/auth/session/{id}/screen", Caller(ReadScreen), Recorded(Deed::ScreenRead), Read),
    // The terminal and input to the desktop require more; the handler decides.
    route(GET, "/api/auth/session/{id}/consent", Caller(ReadSession), Unrecorded, Read),
    route(POST, "/api/auth/session/{id}/consent", Caller(ControlSession), Recorded(Deed::SessionConsent), Change),
    route(POST, "/api/auth/session/{id}/ticket", Caller(ViewDesktop), Recorded(Deed::TicketCreate), TicketClass),
    route(
        POST,
        "/api/auth/session/{id}/proxy-fault",
        Caller(ControlSession),
        Exempt("its session's timeline has it"),
        Change,
    ),
    route(POST, "/api/auth/session/{id}/invitations", Caller(ControlSession), Recorded(Deed::Invitation), Change),
    route(GET, "/api/auth/session/{id}/helpers", Caller(ListHelpers), Unrecorded, Read),
    // A helper may end its own access; for all others the handler requires more.
    route(DELETE, "/api/auth/session/{id}/helpers/{helper}", Caller(ReadSession), Recorded(Deed::HelperEnd), Change),
    route(
        POST,
        "/api/auth/session/{id}/heartbeat",
        Caller(ControlSession),
        Exempt("it only resets the idle timeout"),
        Change,
    ),
    route(POST, "/api/auth/session/{id}/cancel", Caller(ControlSession), Recorded(Deed::SessionCancel), Change),
    route(POST, "/api/auth/session/{id}/restart", Caller(ControlSession), Recorded(Deed::SessionRestart), Change),
    route(POST, "/api/auth/session/{id}/open-url", Caller(ControlSession), Recorded(Deed::InputOpenUrl), Change),
    route(POST, "/api/auth/session/{id}/paste", Caller(ControlSession), Recorded(Deed::InputPaste), Change),
    route(POST, "/api/auth/session/{id}/code", Caller(ControlSession), Recorded(Deed::InputPaste), Change),
    route(POST, "/api/auth/session/{id}/method", Caller(ControlSession), Recorded(Deed::SessionMethod), Change),
    route(POST, "/api/auth/session/{id}/type", Caller(ControlSession), Recorded(Deed::InputType), Change),
    route(POST, "/api/auth/session/{id}/bundle", Caller(OperateServer), Recorded(Deed::BundleCreate), Bundle),
    route(POST, "/api/auth/session/{id}/links", Caller(CreateSessionLink), Recorded(Deed::LoginLinkCreate), Login),
    route(POST, "/api/auth/session/{id}/hosts", Caller(OperateServer), Recorded(Deed::HostGrant), Change),
    route(GET, "/api/auth/session/{id}/log", Caller(OperateServer), Unrecorded, Read),
    route(GET, "/api/credentials", Caller(ReadCredential), Unrecorded, Read),
    route(GET, "/api/credentials/{id}", Caller(ReadCredential), Unrecorded, Read),
    route(DELETE, "/api/credentials/{id}", Caller(DeleteCredential), Recorded(Deed::CredentialDelete), Change),
    route(POST, "/api/credentials/{id}/use", Caller(UseCredential), Recorded(Deed::CredentialUse), Start),
    route(POST, "/api/credentials/{id}/lease", Caller(LeaseCredential), Recorded(Deed::CredentialLease), Lease),
    route(POST, "/api/links", Caller(OperateServer), Recorded(Deed::LoginLinkCreate), Login),
    route(POST, "/api/erase", Caller(OperateServer), Recorded(Deed::DataErase), Change),
    route(GET, "/api/keys", Caller(OperateServer), Unrecorded, Read),
    route(POST, "/api/keys/rotate", Caller(OperateServer), Recorded(Deed::KeyRotate), Change),
    route(POST, "/api/keys/{id}/retire", Caller(OperateServer), Recorded(Deed::KeyRetire), Change),
    route(GET, "/api/audit", Caller(ReadAudit), Recorded(Deed::AuditRead), Read),
    route(GET, "/api/audit/events", Caller(ReadAudit), Recorded(Deed::AuditRead), Stream),
    route(GET, "/api/audit/verification", Caller(ReadAudit), Recorded(Deed::AuditRead), Read),
    route(GET, "/api/tokens", Caller(ListTokens), Unrecorded, Read),
    route(POST, "/api/tokens", Caller(ManageTokens), Recorded(Deed::TokenCreate), Change),
    route(POST, "/api/tokens/{id}/rotate", Caller(ManageTokens), Recorded(Deed::TokenRotate), Change),
    route(POST, "/api/tokens/{id}/revoke", Caller(ManageTokens), Recorded(Deed::TokenRevoke), Change),
    route(GET, "/api/log", Caller(OperateServer), Recorded(Deed::LogRead), Read),
    route(GET, "/api/log/events", Caller(OperateServer), Recorded(Deed::LogRead), Stream),
    route(GET, "/api/config", Caller(OperateServer), Unrecorded, Read),
    route(POST, "/api/backup", Caller(OperateServer), Recorded(Deed::BackupCreate), Bundle),
    route(POST, "/api/database/check", Caller(OperateServer), Recorded(Deed::DatabaseCheck), Bundle),
    route(GET, "/api/leaks", Caller(OperateServer), Recorded(Deed::LeaksList), Read),
    route(GET, "/api/webhook", Caller(OperateServer), Unrecorded, Read),
    route(POST, "/api/webhook/test", Caller(OperateServer), Recorded(Deed::WebhookTest), Login),
    route(POST, "/api/webhook/messages/{id}/resend", Caller(OperateServer), Recorded(Deed::WebhookResend), Change),
    route(POST, "/api/reconcile", Caller(OperateServer), Recorded(Deed::ReconcileRun), Change),
    route(GET, "/api/hosts", Caller(OperateServer), Unrecorded, Read),
    route(POST, "/api/hosts/invitations", Caller(OperateServer), Recorded(Deed::HostInvite), Login),
    route(POST, "/api/hosts/{id}/drain", Caller(OperateServer), Recorded(Deed::HostDrain), Change),
    route(POST, "/api/hosts/{id}/undrain", Caller(OperateServer), Recorded(Deed::HostDrain), Change),
    route(POST, "/api/hosts/{id}/fence", Caller(OperateServer), Recorded(Deed::HostFence), Change),
    route(DELETE, "/api/hosts/{id}", Caller(OperateServer), Recorded(Deed::HostRemove), Change),
    route(GET, "/metrics", Caller(ReadMetrics), Unrecorded, Read),
];

/// The paths of the API with their version; each is the same route as the path without it.
const VERSIONED: &str = "/api/v1/";

/// The request with the path of its route: `/api/v1/…` is `/api/…`.
pub(super) fn without_version(mut request: Request) -> Request {
    if let Some(rest) = request.uri().path_and_query().and_then(|path| path.as_str().strip_prefix(VERSIONED)) {
        let path = format!("/api/{rest}").parse().ok();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = path.or(parts.path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What is known about a request before its handler runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum FoundRoute {
    /// It is listed.
    Listed(&'static Route),
    /// The path is listed, but not with this method. `is_public`: with another one it needs no caller.
    OtherMethod {
        /// Whether a caller is needed to learn this.
        is_public: bool,
    },
    /// The path is not listed.
    Unlisted,
}

/// HEAD is GET without the body; over HTTP/2, a WebSocket begins with CONNECT (RFC 8441) instead of GET.
pub(super) fn as_get(method: &Method) -> &Method {
    if *method == Method::HEAD || *method == Method::CONNECT { &GET } else { method }
}

impl FoundRoute {
    /// The route of a request, by its method and the pattern of its path.
    pub(super) fn of(method: &Method, pattern: Option<&str>) -> Self {
        let Some(pattern) = pattern else { return Self::Unlisted };
        let method = as_get(method);
        let mut of_path = ROUTES.iter().filter(|route| route.path == pattern).peekable();
        if of_path.peek().is_none() {
            tracing::error!(outcome = "route_not_listed", pattern, "a route has no entry in the table of routes");
            return Self::Unlisted;
        }
        let mut is_public = false;
        for route in of_path {
            if route.method == *method {
                return Self::Listed(route);
            }
            is_public |= matches!(route.access, Access::Public(_));
        }
        Self::OtherMethod { is_public }
    }

    /// The methods of the routes with this pattern, as in the header `Allow`; empty: there are none.
    pub(super) fn allowed_methods(pattern: &str) -> String {
        let of_path = ROUTES.iter().filter(|route| route.path == pattern);
        let mut methods: Vec<_> = of_path.map(|route| route.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        if !methods.is_empty() {
            methods.push("OPTIONS");
        }
        methods.join(", ")
    }

    /// The class of a request, whose rate limits it.
    pub(super) fn class(self, method: &Method, headers: &HeaderMap) -> RouteClass {
        match self {
            Self::Listed(Route { class: Stream, .. }) if !accepts_event_stream(headers) => Read,
            Self::Listed(route) => route.class,
            Self::OtherMethod { .. } | Self::Unlisted if *method == Method::GET || *method == Method::HEAD => Read,
            Self::OtherMethod { .. } | Self::Unlisted => Change,
        }
    }

    /// The action as which a request is recorded.
    pub(super) fn recorded_action(self) -> Option<Deed> {
        match self {
            Self::Listed(Route { recording: Recorded(action), .. }) => Some(*action),
            Self::Listed(_) | Self::OtherMethod { .. } | Self::Unlisted => None,
        }
    }
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn operations() -> BTreeSet<(String, String)> {
        let document = super::super::document_of_all_routes();
        let paths = document.paths.as_object().unwrap();
        let of_path = |(path, methods): (&String, &serde_json::Value)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn every_operation_of_the_document_is_in_the_table_of_routes_once() {
        let operations = operations();
        assert!(operations.len() > 30, "{operations:?}");
        for (method, path) in &operations {
            let listed = ROUTES.iter().filter(|route| route.method.as_str() == method && route.path == path);
            assert_eq!(listed.count(), 1, "{method} {path} in http/routes.rs");
        }
        let is_unknown = |route: &&Route| {
            let is_page = [Public(STATIC), Public(DEMO), Access::Ticket].contains(&route.access);
            !is_page && !operations.contains(&(route.method.to_string(), route.path.to_owned()))
        };
        assert_eq!(ROUTES.iter().find(is_unknown).map(|route| route.path), None, "a route that does not exist");
    }

    /// A new route of the API names its action, or the reason why it has none.
    #[test]
    fn every_route_that_changes_something_has_an_audit_action() {
        for Route { method, path, recording, .. } in ROUTES {
            match recording {
                Recorded(_) => {}
                Unrecorded => assert_eq!(method, GET, "{path} has no audit action"),
                Exempt(reason) => assert!(!reason.is_empty(), "{path}"),
            }
        }
        let head = FoundRoute::of(&Method::HEAD, Some("/api/leaks"));
        assert_eq!(head.recorded_action(), Some(Deed::LeaksList), "HEAD is GET");
    }

    #[test]
    fn class_of_a_route() {
        let class = |method: &Method, path, headers: &HeaderMap| FoundRoute::of(method, path).class(method, headers);
        let none = HeaderMap::new();
        let events = HeaderMap::from_iter([(header::ACCEPT, "text/event-stream".parse().unwrap())]);
        for (method, path, headers, expected) in [
            (GET, Some("/api/auth/session/{id}"), &none, Read),
            (GET, Some("/api/auth/session/{id}/events"), &none, Read),
            (GET, Some("/api/auth/session/{id}/events"), &events, Stream),
            (POST, Some("/api/auth/session/{id}/cancel"), &none, Change),
            (POST, Some("/api/credentials/{id}/use"), &none, Start),
            (DELETE, Some("/api/auth/start"), &none, Change),
            (GET, None, &none, Read),
            (POST, None, &events, Change),
        ] {
            assert_eq!(class(&method, path, headers), expected, "{method} {path:?}");
        }
    }
}

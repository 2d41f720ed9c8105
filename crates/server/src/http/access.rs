//! What each route requires of its caller. A route that is not in [`ROUTES`] answers as if it did not exist.

use anteroom_controller::caller::Action;
use axum::http::Method;

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

/// The action of a request, from its route. The extractors of resources require it of the caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestedAction(pub Action);

/// Every route: method, path and what it requires. HEAD is GET.
pub const ROUTES: &[(&str, &str, Access)] = &[
    ("GET", "/", Access::Public("static page without data")),
    ("GET", "/login", Access::Public("static page without data")),
    ("GET", "/dashboard/remote-cli", Access::Public("static page without data")),
    ("GET", "/dashboard/remote-cli/auth", Access::Public("static page without data")),
    // A navigation cannot send the key of the browser.
    ("GET", "/api/auth/session/{id}/novnc", Access::Public("static page without data")),
    ("GET", "/assets/{*path}", Access::Public("static files")),
    ("GET", "/favicon.ico", Access::Public("static file")),
    ("GET", "/openapi.json", Access::Public("static document")),
    ("GET", "/health", Access::Public("returns only the overall status without a caller")),
    ("POST", "/api/login", Access::Public("authenticated by a single-use login token")),
    ("POST", "/api/auth/credentials/store", Access::Public("authenticated by the agent token")),
    ("POST", "/api/agent/events", Access::Public("authenticated by the agent token")),
    ("GET", "/api/agent/session", Access::Public("authenticated by the agent token")),
    ("GET", "/api/auth/session/{id}/novnc/websock", Access::Ticket),
    ("GET", "/api/auth/session/{id}/terminal", Access::Ticket),
    ("GET", "/api/me", Access::Caller(Action::ReadSelf)),
    // The handlers permit only the caller's own browsers.
    ("GET", "/api/browsers", Access::Caller(Action::ReadSelf)),
    ("DELETE", "/api/browsers/{id}", Access::Caller(Action::ReadSelf)),
    ("POST", "/api/logout", Access::Caller(Action::ReadSelf)),
    ("GET", "/api/providers", Access::Caller(Action::ListProviders)),
    ("POST", "/api/auth/start", Access::Caller(Action::StartSession)),
    ("GET", "/api/sessions", Access::Caller(Action::ListSessions)),
    ("GET", "/api/auth/session/{id}", Access::Caller(Action::ReadSession)),
    ("GET", "/api/auth/session/{id}/events", Access::Caller(Action::ReadSession)),
    ("GET", "/api/auth/session/{id}/diagnosis", Access::Caller(Action::ReadSession)),
    ("GET", "/api/auth/session/{id}/credentials", Access::Caller(Action::ReadSession)),
    ("GET", "/api/auth/session/{id}/oauth-url", Access::Caller(Action::ReadSession)),
    ("GET", "/api/auth/session/{id}/screen", Access::Caller(Action::ReadScreen)),
    // The terminal and input to the desktop require more; the handler decides.
    ("GET", "/api/auth/session/{id}/consent", Access::Caller(Action::ReadSession)),
    ("POST", "/api/auth/session/{id}/consent", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/ticket", Access::Caller(Action::ViewDesktop)),
    ("POST", "/api/auth/session/{id}/invitations", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/heartbeat", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/cancel", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/restart", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/open-url", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/paste", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/code", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/method", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/type", Access::Caller(Action::ControlSession)),
    ("POST", "/api/auth/session/{id}/bundle", Access::Caller(Action::OperateServer)),
    ("GET", "/api/credentials", Access::Caller(Action::ReadCredential)),
    ("GET", "/api/credentials/{id}", Access::Caller(Action::ReadCredential)),
    ("DELETE", "/api/credentials/{id}", Access::Caller(Action::DeleteCredential)),
    ("POST", "/api/credentials/{id}/use", Access::Caller(Action::UseCredential)),
    ("POST", "/api/credentials/{id}/lease", Access::Caller(Action::LeaseCredential)),
    ("POST", "/api/links", Access::Caller(Action::OperateServer)),
    ("POST", "/api/erase", Access::Caller(Action::OperateServer)),
    ("GET", "/api/keys", Access::Caller(Action::OperateServer)),
    ("POST", "/api/keys/rotate", Access::Caller(Action::OperateServer)),
    ("POST", "/api/keys/{id}/retire", Access::Caller(Action::OperateServer)),
    ("GET", "/api/audit", Access::Caller(Action::ReadAudit)),
    ("GET", "/api/audit/verification", Access::Caller(Action::ReadAudit)),
    ("GET", "/api/tokens", Access::Caller(Action::ListTokens)),
    ("POST", "/api/tokens", Access::Caller(Action::ManageTokens)),
    ("POST", "/api/tokens/{id}/rotate", Access::Caller(Action::ManageTokens)),
    ("POST", "/api/tokens/{id}/revoke", Access::Caller(Action::ManageTokens)),
    ("GET", "/api/leaks", Access::Caller(Action::OperateServer)),
    ("GET", "/api/webhook", Access::Caller(Action::OperateServer)),
    ("POST", "/api/reconcile", Access::Caller(Action::OperateServer)),
    ("GET", "/metrics", Access::Caller(Action::ReadMetrics)),
];

/// What is known about a request before its handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// It is listed.
    Listed(Access),
    /// The path is listed, but not with this method. `is_public`: with another one it needs no caller.
    OtherMethod {
        /// Whether a caller is needed to learn this.
        is_public: bool,
    },
    /// The path is not listed.
    Unlisted,
}

/// Finds the route of a request, by its method and the pattern of its path.
pub(super) fn find_route(method: &Method, pattern: Option<&str>) -> Route {
    let Some(pattern) = pattern else { return Route::Unlisted };
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut of_path = ROUTES.iter().filter(|(_, path, _)| *path == pattern).peekable();
    if of_path.peek().is_none() {
        tracing::error!(outcome = "route_not_listed", pattern, "a route has no entry in the table of access");
        return Route::Unlisted;
    }
    let mut is_public = false;
    for (listed, _, access) in of_path {
        if *listed == method {
            return Route::Listed(*access);
        }
        is_public |= matches!(access, Access::Public(_));
    }
    Route::OtherMethod { is_public }
}

//! Every refusal there is: stable code, sentence, HTTP status, WebSocket close code, remedy.
//!
//! One table, so that a page, a backend and an operator are told the same cause by the same name. Browsers hide the
//! status of a refused WebSocket handshake from scripts, so a refused viewer is accepted and closed with the close code;
//! callers that are not browsers get the HTTP status.

use serde::{Deserialize, Serialize};

macro_rules! problems {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $http:literal, $close:literal, $sentence:literal, $remedy:literal; )*) => {
        /// A refusal. The variant is the cause; [`Problem::with`] adds what is particular to this case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Problem { $( $(#[$doc])* $name, )* }

        impl Problem {
            /// All of them, for tables and tests.
            pub const ALL: &'static [Problem] = &[$( Problem::$name, )*];

            /// Stable, for programs.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// The HTTP status.
            pub fn http_status(self) -> u16 { match self { $( Self::$name => $http, )* } }
            /// The WebSocket close code (RFC 6455 §7.4.2 leaves 4000 to 4999 to applications).
            pub fn close_code(self) -> u16 { match self { $( Self::$name => $close, )* } }
            /// One sentence, for people: what is so.
            pub fn sentence(self) -> &'static str { match self { $( Self::$name => $sentence, )* } }
            /// One sentence, for people: what to do.
            pub fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
        }
    };
}

problems! {
    /// A body, query or path that does not parse.
    Malformed = "malformed", 400, 4400, "The request is not well formed.", "Correct the request as the detail says.";
    /// No caller.
    Unauthenticated = "unauthenticated", 401, 4401, "Nobody is signed in, or the token, cookie or ticket is not valid.", "Open the link that `anteroom serve` printed, or send an API token.";
    /// A pass, ticket or token that was used before or is too old.
    TicketUsed = "ticket_used", 401, 4401, "This link or ticket was used before or is too old.", "Ask for a new one.";
    /// A known caller without the right.
    NotOwner = "not_owner", 403, 4403, "This belongs to somebody else.", "Use the account that started it.";
    /// A request from another site's page.
    CrossOrigin = "cross_origin", 403, 4403, "The request comes from a page of another site.", "Open Anteroom's own page.";
    /// The agent's token is not this machine's.
    WrongAgentToken = "wrong_agent_token", 401, 4401, "The agent's token does not belong to a live machine of this session.", "Nothing to do: the machine was replaced or has ended.";
    /// The egress gate says no.
    EgressDenied = "egress_denied", 403, 4403, "The provider's list does not grant this host name.", "Add the name to the provider's egress list if the tool needs it.";
    /// A granted name that leads to a private address.
    EgressPrivate = "egress_private", 403, 4403, "The name leads to a private, loopback or link-local address.", "Only public addresses may be reached from a machine.";
    /// A granted name that cannot be resolved or reached.
    EgressUnreachable = "egress_unreachable", 502, 4502, "The host cannot be reached from here.", "Check this host's connection to the Internet and its name server.";
    /// A granted name that does not answer in time.
    EgressTimeout = "egress_timeout", 504, 4504, "The host did not answer in time.", "Try again; check this host's connection to the Internet.";
    /// No such route.
    PathNotFound = "path_not_found", 404, 4404, "There is nothing at this path.", "See /openapi.json for what there is.";
    /// A route, but not with this method.
    MethodNotAllowed = "method_not_allowed", 405, 4404, "This path does not take this method.", "See /openapi.json for what there is.";
    /// No such session.
    UnknownSession = "unknown_session", 404, 4404, "There is no such session.", "Start a new one.";
    /// No such credential.
    UnknownCredential = "unknown_credential", 404, 4404, "There is no such credential.", "List the credentials to see what there is.";
    /// No such provider.
    UnknownProvider = "unknown_provider", 400, 4400, "There is no such provider.", "GET /api/providers lists what there is.";
    /// The image lacks the provider's tool.
    ProviderUnavailable = "provider_unavailable", 409, 4409, "The machine image does not contain this provider's tool.", "Build the image again: `anteroom image build`.";
    /// Nobody used the session for too long.
    IdleTimeout = "idle_timeout", 408, 4408, "Nothing happened here for too long.", "Connect again while the session lives, or start a new one.";
    /// Asked for something that is not there yet.
    NotReady = "not_ready", 409, 4409, "The machine is not ready yet.", "Try again in a moment.";
    /// The tool's sign-in has shown no address yet.
    NoSignInUrl = "no_sign_in_url", 409, 4409, "The tool has not shown an address to open yet.", "Wait a moment, or look at the terminal.";
    /// Something was pasted and nothing waits for it.
    NoPrompt = "no_prompt", 409, 4409, "The tool does not wait for this at the moment.", "Look at the terminal: it shows what the tool asks.";
    /// An answer that the tool could not take.
    WrongAnswer = "wrong_answer", 422, 4422, "This is not what the tool asks for; it was not given to it.", "Copy it again, whole; the detail says what it looks like.";
    /// The address of another sign-in.
    WrongCallback = "wrong_callback", 422, 4422, "This address does not belong to the sign-in that waits here; it was not used.", "Copy the address that your browser shows at the end of this very sign-in.";
    /// The tool did not take the address at which the browser ended.
    CallbackFailed = "callback_failed", 502, 4502, "The tool does not answer at the address where it waited.", "Look at the terminal; start the sign-in again there or in the page.";
    /// A method that the provider does not have.
    UnknownMethod = "unknown_method", 400, 4400, "The provider has no such way of signing in.", "GET /api/providers lists its methods.";
    /// The policy forbids it.
    ForbiddenByPolicy = "forbidden_by_policy", 403, 4403, "This provider's storage policy does not allow that.", "GET /api/providers tells each provider's policy.";
    /// A credential that was handed out.
    AlreadyDelivered = "already_delivered", 410, 4410, "This credential was handed out once and then deleted here.", "Sign in again.";
    /// The credential's tool has no such command.
    NoSuchCommand = "no_such_command", 409, 4409, "The tool has no command for that.", "The detail says which; use the tool itself with `anteroom exec`.";
    /// An idempotency key used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", 409, 4409, "This idempotency key was used for a different request.", "Use a new key for a new request.";
    /// The session has ended.
    SessionEnded = "session_ended", 410, 4410, "The session has ended.", "Start a new one.";
    /// The body is larger than allowed.
    TooLarge = "too_large", 413, 4413, "The body is larger than this server takes.", "Send less, or raise the limit in the configuration.";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, 4400, "The body must be JSON.", "Send `Content-Type: application/json` and a JSON body.";
    /// The credential is not what this provider writes.
    InvalidCredentialFormat = "invalid_credential_format", 422, 4422, "The delivered file is not a credential of this provider.", "The detail names the missing keys; the tool's version may have changed the shape.";
    /// Too many viewers.
    TooManyViewers = "too_many_viewers", 429, 4429, "This session has as many viewers as it may have.", "Close another viewer first.";
    /// A fault of ours.
    Internal = "internal", 500, 4500, "Something failed inside the server.", "The log has the cause under this request's id.";
    /// The desktop does not answer.
    DesktopUnreachable = "desktop_unreachable", 502, 4502, "The machine does not answer on its desktop.", "It is being looked after; connect again in a moment.";
    /// The machine's agent does not answer.
    AgentUnreachable = "agent_unreachable", 502, 4502, "The machine's agent does not answer.", "It is being looked after; try again in a moment.";
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable", 503, 4503, "The database cannot be used at the moment.", "Try again; the server's health page names the cause.";
    /// No room for another machine.
    NoCapacity = "no_capacity", 503, 4503, "There is no room for another machine.", "Try again later.";
    /// Too little memory for another machine.
    MemoryLow = "memory_low", 503, 4503, "This host has too little memory for another machine.", "Try again later; end sessions that are not needed, or give the host more memory.";
    /// Too little disk for another session.
    DiskLow = "disk_low", 503, 4503, "This host's disk is nearly full.", "Make room below the state directory; `anteroom doctor --leaks` shows what lies there.";
    /// No image or template to clone from.
    NoImage = "no_image", 503, 4503, "There is no machine image to start from.", "Run `anteroom image build`.";
    /// The server is stopping.
    ShuttingDown = "shutting_down", 503, 4503, "The server is shutting down.", "Try again in a moment.";
    /// The machine was replaced.
    MachineReplaced = "machine_replaced", 409, 4510, "The machine was replaced by a new one.", "Connect again: the new machine is this session's.";
    /// Another machine was asked for and the session has had all.
    NoRestartLeft = "no_restart_left", 409, 4409, "This session has had all the machines that it may have.", "Go on with this machine, or start a new session.";
    /// Another machine was asked for while a credential is on its way.
    DeliveryInProgress = "delivery_in_progress", 409, 4409, "A credential is on its way out of this machine: another one would lose it.", "Wait a moment; the diagnosis says how far it is.";
    /// No such external machine.
    UnknownMachine = "unknown_machine", 404, 4404, "There is no external machine of this name.", "Use a name that stands below [external_machines] in the configuration.";
    /// Another live session holds the external machine.
    MachineInUse = "machine_in_use", 409, 4409, "Another session uses this external machine.", "Wait until that session has ended, or end it.";
    /// What only a cloned machine can do.
    ExternalDesktopOnly = "external_desktop_only", 409, 4409, "On an external machine this server reaches only the desktop.", "Use the desktop: it shows the machine's own terminal and browser.";
    /// No way to an external machine.
    ExternalNoRoute = "external_no_route", 502, 4502, "There is no route to the external machine.", "Check that its name resolves and that this host has a way to its network.";
    /// An external machine refuses the connection.
    ExternalRefused = "external_refused", 502, 4502, "The external machine refuses connections to its desktop.", "Start the websockify or VNC server there, and check its port.";
    /// An external machine does not take the connection.
    ExternalTimeout = "external_timeout", 504, 4502, "The external machine did not take the connection in time.", "Check that it is switched on and that no firewall drops the packets between it and this host.";
    /// An external desktop that says nothing.
    ExternalSilent = "external_silent", 504, 4502, "The external machine took the connection and its desktop said nothing in time.", "Look there whether the VNC server hangs, or whether another program has the port.";
    /// An external desktop that hangs up.
    ExternalClosed = "external_closed", 502, 4502, "The external machine took the connection and closed it without a word.", "Look there whether the VNC server behind the websockify runs, and whether it takes more viewers.";
    /// What is no desktop.
    ExternalWrongProtocol = "external_wrong_protocol", 502, 4502, "What answers on the external machine is not a VNC desktop.", "Compare scheme, port and path of its address: ws:// is for websockify, vnc:// for a VNC server.";
    // Why a session ended: the same table, so that a page and an API caller are told the same words.
    /// The machine ended too often.
    MachineFailed = "machine_failed", 410, 4410, "The machine ended and the session had no restart left.", "Start a new session; the timeline has the machine's end.";
    /// The machine was not ready in time.
    ReadyTimeout = "ready_timeout", 410, 4410, "The machine was not ready in time.", "Start a new session; the timeline names the stage it waited for.";
    /// The agent speaks another protocol or runs another image.
    AgentMismatch = "agent_mismatch", 410, 4410, "The machine runs another image or agent than this server expects.", "Build the image again: `anteroom image build`.";
    /// The owner cancelled.
    Cancelled = "cancelled", 410, 4410, "The session was cancelled.", "Start a new one.";
    /// The idle grace ran out.
    IdleExpired = "idle_expired", 410, 4410, "Nobody used the session for as long as it may be idle.", "Start a new one.";
    /// The hard cap was reached.
    DeadlineExpired = "deadline_expired", 410, 4410, "The session reached its longest duration.", "Start a new one.";
    /// Completed: nothing more to see.
    Completed = "completed", 410, 4410, "The session is complete: the credential is stored.", "Nothing to do.";
    /// The command with a stored credential has ended.
    UseCompleted = "use_completed", 410, 4410, "The command with the stored credential has ended.", "Nothing to do.";
    /// The server restarted and could not take the machine over.
    ControllerRestarted = "controller_restarted", 410, 4410, "The server restarted and the machine could not be taken over.", "Start a new one.";
}

impl Problem {
    /// The problem with its code, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|problem| problem.code() == code)
    }

    /// The JSON body for this problem; `detail` says what is particular to this case (`""`: nothing).
    pub fn with(self, detail: impl Into<String>) -> ProblemBody {
        let detail = detail.into();
        ProblemBody {
            code: self.code().to_owned(),
            sentence: self.sentence().to_owned(),
            detail: (!detail.is_empty()).then_some(detail),
            remedy: self.remedy().to_owned(),
            close_code: self.close_code(),
        }
    }
}

/// A refusal as JSON; sent with the problem's HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ProblemBody {
    /// Stable, for programs.
    pub code: String,
    /// What is so.
    pub sentence: String,
    /// What is particular to this case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    pub remedy: String,
    /// The WebSocket close code of the same cause.
    pub close_code: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: HashSet<_> = Problem::ALL.iter().map(|problem| problem.code()).collect();
        assert_eq!(codes.len(), Problem::ALL.len());
        for problem in Problem::ALL {
            assert!((400..600).contains(&problem.http_status()), "{problem:?}");
            assert!((4400..4600).contains(&problem.close_code()), "{problem:?}");
            assert_eq!(Problem::from_code(problem.code()), Some(*problem));
        }
    }

    #[test]
    fn a_close_reason_fits_its_frame() {
        // A close frame carries at most 123 bytes of reason (RFC 6455 §5.5): "code: sentence".
        for problem in Problem::ALL {
            assert!(problem.code().len() + 2 + problem.sentence().len() <= 123, "{problem:?}");
        }
    }

    /// One row for each problem, sorted as people look for them.
    fn table() -> String {
        let mut all = Problem::ALL.to_vec();
        all.sort_by_key(|problem| (problem.close_code(), problem.http_status(), problem.code()));
        let rows = all.into_iter().map(|problem| {
            let (close, http) = (problem.close_code(), problem.http_status());
            format!("| {close} | {http} | `{}` | {} | {} |\n", problem.code(), problem.sentence(), problem.remedy())
        });
        rows.collect()
    }

    /// `ANTEROOM_WRITE_DOCS=1` writes the page's table anew.
    #[test]
    fn the_page_of_close_codes_is_the_table() {
        const BEGIN: &str = "<!-- table: begin -->\n";
        const END: &str = "<!-- table: end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/close_codes.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (head, rest) = page.split_once(BEGIN).expect("where the table begins");
        let (_, tail) = rest.split_once(END).expect("where the table ends");
        let titles = "| close code | HTTP | code | what is so | what to do |\n|---|---|---|---|---|\n";
        let wanted = format!("{head}{BEGIN}{titles}{}{END}{tail}", table());
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == wanted, "docs/close_codes.md differs from the table; ANTEROOM_WRITE_DOCS=1 writes it");
    }
}

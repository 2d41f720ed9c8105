//! All errors of the API ("problems"): stable code, sentence, HTTP status, close code, remedy.
//!
//! One table, so that pages, backends and operators see the same code for the same cause. The reasons for which a session ends are in
//! another table, [`EndReason`]; [`Problem::Ended`] is the error for every request about an ended session. Browsers hide the status of a rejected
//! WebSocket handshake from scripts, so a rejected viewer is accepted and closed with the close code; callers that are not
//! browsers get the HTTP status.

use crate::EndReason;
use serde::{Deserialize, Serialize};

macro_rules! problems {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $http:literal, $close:literal, $sentence:literal, $remedy:literal, $for_person:literal; )*) => {
        /// Why a request was rejected or a socket was closed. [`Problem::with_detail`] adds the detail of a case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Problem {
            $( $(#[$doc])* $name, )*
            /// The session has ended, for this reason.
            Ended(EndReason),
        }

        impl Problem {
            /// All API errors without [`Problem::Ended`], for tables and tests.
            pub const ALL: &'static [Problem] = &[$( Problem::$name, )*];

            /// The stable code, for programs.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* Self::Ended(reason) => reason.code() } }
            /// The HTTP status.
            pub fn http_status(self) -> u16 { match self { $( Self::$name => $http, )* Self::Ended(_) => EndReason::HTTP_STATUS } }
            /// The WebSocket close code (RFC 6455 §7.4.2 leaves 4000 to 4999 to applications).
            pub fn close_code(self) -> u16 { match self { $( Self::$name => $close, )* Self::Ended(_) => EndReason::CLOSE_CODE } }
            /// One sentence, for operators and backends: what happened.
            pub fn sentence(self) -> &'static str { match self { $( Self::$name => $sentence, )* Self::Ended(reason) => reason.sentence() } }
            /// One sentence, for operators and backends: what to do.
            pub fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* Self::Ended(reason) => reason.remedy() } }
            /// For the person at a page: what happened and what to do.
            pub fn for_person(self) -> &'static str { match self { $( Self::$name => $for_person, )* Self::Ended(reason) => reason.for_person() } }
        }
    };
}

problems! {
    /// A body, query or path that does not parse.
    Malformed = "malformed", 400, 4400, "The request is not well formed.", "Correct the request as the detail says.", "Something here is not complete. If you opened a link, check that all of it was copied.";
    /// No valid caller.
    Unauthenticated = "unauthenticated", 401, 4401, "No valid token, cookie or ticket was sent.", "Sign in, open the link that `anteroom serve` printed, or send an API token.", "You are not signed in here. Open your link again, or go back to where you came from and start again.";
    /// A login token or ticket that was used before or has expired.
    TicketUsed = "ticket_used", 401, 4401, "This link or ticket was used before or has expired.", "Ask for a new one.", "This link was used before or has expired. Go back to where you came from and start again.";
    /// A known caller without the permission.
    NotOwner = "not_owner", 403, 4403, "This belongs to another caller, or needs another role.", "Use the account that started it, or one with the role (docs/callers.md); the detail names the role.", "This sign-in belongs to another person. Open it in the browser in which it was started.";
    /// A caller that was revoked while a connection of it was open.
    CallerRevoked = "caller_revoked", 401, 4411, "The token or cookie of this connection was revoked.", "Ask for a new link or token.", "Your access was ended. Go back to where you came from and start again.";
    /// A caller that expired while a connection of it was open.
    CallerExpired = "caller_expired", 401, 4412, "The token or cookie of this connection has expired.", "Ask for a new link or token.", "Your access has expired. Go back to where you came from and start again.";
    /// A helper whose access was ended.
    HelperEnded = "helper_ended", 401, 4414, "The access of this helper was ended.", "Ask the person who invited you for another link.", "Your access as a helper was ended. Ask the person who invited you for another link.";
    /// A caller whose row was changed outside of the server.
    CallerTampered = "caller_tampered", 403, 4403, "What is stored about this token, cookie or link was changed outside of this server; it is not accepted.", "Tell the operator: `anteroom doctor` names the row. Revoke it, use a new token or link, and find out who can write to the database.", "Your access cannot be accepted any more. Please tell the people who sent you here.";
    /// No such API token.
    UnknownToken = "unknown_token", 404, 4404, "There is no such valid API token.", "`anteroom token list` shows the tokens.", "This did not work. Please tell the people who run this page.";
    /// No such helper of the session.
    UnknownHelper = "unknown_helper", 404, 4404, "This session has no such helper or open invitation.", "List its helpers: one that has left, was ended or has expired is not among them.", "This helper is not here any more.";
    /// A WebSocket request whose `Upgrade` header a reverse proxy has removed.
    ProxyWithoutUpgrade = "proxy_without_upgrade", 400, 4400, "A reverse proxy in front of this server does not pass WebSockets on.", "Let the proxy use HTTP/1.1 and pass the headers Upgrade and Connection (docs/networks.md), then connect again.", "This part of the page cannot be shown: something on the way to you does not let it through. Please tell the people who run this page.";
    /// Live updates that a reverse proxy holds back.
    ProxyBuffers = "proxy_buffers", 400, 4400, "A reverse proxy in front of this server holds back live updates.", "Switch buffering off for this server in the proxy (nginx: proxy_buffering off), or let it heed X-Accel-Buffering (docs/networks.md).", "Updates arrive a few seconds late: something on the way to you holds them back.";
    /// A request body that a reverse proxy refuses because of its size.
    ProxyBodyLimit = "proxy_body_limit", 413, 4400, "A reverse proxy in front of this server refuses large requests.", "Permit requests of 1 MiB in the proxy (nginx: client_max_body_size 1m; docs/networks.md).", "This was too large for something on the way. Please tell the people who run this page.";
    /// A link that lost what follows its `#` on the way.
    LinkWithoutFragment = "link_without_fragment", 401, 4401, "A link lost what follows # at the sign-in of a reverse proxy.", "Let the person open the link once more after that sign-in, or paste it into the page; or let the proxy pass the pages without its sign-in (docs/networks.md).", "The last part of your link was lost on the way here. Open the link once more, or paste it below.";
    /// A name that another API token has, or that looks like that of another one.
    NameInUse = "name_in_use", 409, 4409, "Another valid token has this name, or one that looks like it.", "Choose another name, or rotate or revoke that token.", "This did not work. Please tell the people who run this page.";
    /// A token whose scopes do not include the request's.
    MissingScope = "missing_scope", 403, 4403, "This token lacks a scope that the request needs.", "Use a token with the scope that the detail names; `anteroom token list` shows the scopes.", "You may not do that here. Please tell the people who run this page.";
    /// A request from a page of another origin.
    CrossOrigin = "cross_origin", 403, 4403, "The request comes from a page of another site.", "Open Anteroom at the address that `anteroom serve` printed, or at its public_url.", "This page was opened in an unexpected place. Open your link again in a new window.";
    /// A browser whose last sign-in is too long ago.
    ConfirmationRequired = "confirmation_required", 403, 4403, "This needs a fresh sign-in in this browser.", "Sign in again, with a new link or with your identity provider, and repeat it within 5 minutes.", "Please sign in again to confirm this.";
    /// No OpenID provider.
    OidcNotConfigured = "oidc_not_configured", 404, 4404, "This server has no identity provider.", "Sign in with a link; an operator sets the provider in [oidc] (docs/oidc.md).", "You cannot sign in with an account here. Open the link that you were given.";
    /// An OpenID provider that does not answer as it must.
    IssuerUnavailable = "issuer_unavailable", 503, 4503, "The identity provider does not answer as it must.", "Try again in a moment; the detail names the cause, and so does `anteroom doctor`.", "The page that signs you in does not answer. Please try again in a moment.";
    /// A sign-in that cannot be finished.
    SignInExpired = "sign_in_expired", 401, 4401, "This sign-in was used before, has expired, or was begun in another browser.", "Sign in again, and finish within 10 minutes in the same browser.", "This sign-in was used before or took too long. Please sign in again in the same browser.";
    /// A person who declined, or whom the OpenID provider does not sign in.
    SignInDenied = "sign_in_denied", 403, 4403, "The identity provider did not sign you in: it was declined there.", "Sign in again, or ask the operator of the identity provider for access.", "You were not signed in: it was declined. Try again, or ask for access.";
    /// An error of the OpenID provider.
    IssuerError = "issuer_error", 502, 4502, "The identity provider answered with an error.", "The detail has its error; an operator compares [oidc] with what is registered at the provider.", "The page that signs you in answered with an error. Please try again, or tell the people who run this page.";
    /// An authorization code that the OpenID provider does not accept.
    CodeRejected = "code_rejected", 401, 4401, "The identity provider does not accept the code of this sign-in.", "Sign in again: a code works once, for a short time.", "This sign-in did not work. Please sign in again.";
    /// A client identifier or secret that the OpenID provider does not accept.
    ClientRejected = "client_rejected", 502, 4502, "The identity provider does not accept this server as its client.", "An operator compares oidc.client_id and the client's secret with the provider's.", "You cannot be signed in at the moment. Please tell the people who run this page.";
    /// An ID token that is not valid.
    IdTokenInvalid = "id_token_invalid", 401, 4401, "The ID token of the identity provider is not valid.", "The detail names what is wrong; sign in again, and ask an operator if that does not help.", "This sign-in did not work. Please sign in again, or tell the people who run this page.";
    /// A person without a role.
    NoRole = "no_role", 403, 4403, "Your account may not use this server: none of its groups has a role.", "Ask the operator of this server: [oidc.roles] lists the groups.", "Your account may not be used here. Please ask the people who run this page for access.";
    /// A confirmation that does not prove that the person is present.
    ConfirmationNotFresh = "confirmation_not_fresh", 403, 4403, "The identity provider did not ask you to authenticate again.", "Confirm again, and enter your password there; the detail is for the operator of the provider.", "Please confirm again, and enter your password this time.";
    /// A confirmation by another person.
    OtherPerson = "other_person", 403, 4403, "Another person confirmed than the one who is signed in.", "Confirm again with the account that is signed in, or sign out first.", "Another person confirmed than the one who is signed in. Please confirm with your own account.";
    /// A confirmation of a person whose groups give another role now.
    RoleChanged = "role_changed", 403, 4403, "Your role has changed since you signed in; you are signed out.", "Sign in again.", "Your access has changed. Please sign in again.";
    /// A request for another host.
    WrongHost = "wrong_host", 421, 4400, "This server does not have the host name of this request.", "Use the address that `anteroom serve` printed; behind a reverse proxy, set public_url and let the proxy pass on the Host header.", "This page is not available at this address. Open the link that you were given.";
    /// The agent's token is not this machine's.
    WrongAgentToken = "wrong_agent_token", 401, 4401, "The agent's token does not belong to a live machine of this session.", "Nothing to do for a replaced machine; for an external machine, compare the token with its agent_token_file.", "This did not work. Please tell the people who run this page.";
    /// The provider's egress list does not allow the host.
    EgressDenied = "egress_denied", 403, 4403, "The provider's egress list does not allow this host name.", "Add the name to the provider's egress list if the tool needs it.", "This did not work. Please tell the people who run this page.";
    /// An allowed name that resolves to a private address.
    EgressPrivate = "egress_private", 403, 4403, "The name resolves to an address that is not public.", "The detail has the range of the address, and the setting that allows it where it is meant so (fake-IP DNS, NAT64, split DNS).", "This did not work. Please tell the people who run this page.";
    /// An allowed name that cannot be resolved or reached.
    EgressUnreachable = "egress_unreachable", 502, 4502, "The host cannot be reached from here.", "Check this host's connection to the Internet and its name server.", "The page cannot be reached from here. Please try again later.";
    /// An allowed name that does not answer in time.
    EgressTimeout = "egress_timeout", 504, 4504, "The host did not answer in time.", "Try again; check this host's connection to the Internet.", "The page did not answer in time. Please try again.";
    /// An allowed name to which this server's proxy does not connect.
    EgressProxy = "egress_proxy", 502, 4502, "The proxy of this server did not connect to the host.", "The detail has the proxy's answer: compare [egress.proxy] with it, or ask the proxy's operator; `anteroom doctor --network PROVIDER` checks each host.", "The page cannot be reached from here. Please tell the people who run this page.";
    /// An allowed name whose certificate is by an authority that machines do not trust: mostly a proxy that inspects TLS.
    EgressUnknownAuthority = "egress_unknown_authority", 502, 4502, "The host's certificate is by an authority that is not trusted here.", "The detail names the authority: if it is a proxy's that inspects TLS, add its certificate to egress.extra_ca_files and restart the server.", "The connection to the page cannot be trusted. Please tell the people who run this page.";
    /// An allowed name whose certificate is not valid at the present time of this host.
    EgressCertificateDates = "egress_certificate_dates", 502, 4502, "The host's certificate is not valid at this host's present time.", "Compare this host's clock with the time; if it is right, the host's certificate has expired or is not valid yet.", "The connection to the page cannot be trusted. Please tell the people who run this page.";
    /// A connection whose TLS handshake does not name the granted host.
    EgressTlsName = "egress_tls_name", 403, 4403, "The connection does not name the granted host in its TLS handshake.", "The detail has the name; if the tool needs that host, add it to the provider's egress list. Ports other than 443 need no TLS.", "This did not work. Please tell the people who run this page.";
    /// A session that has used all bytes that it may send or receive.
    EgressLimit = "egress_limit", 429, 4429, "This session has sent or received all bytes that it may.", "Raise egress.session_upload_mib_max or session_download_mib_max if the tool needs more.", "This sign-in has used all the data that it may. Please start again.";
    /// No such route.
    PathNotFound = "path_not_found", 404, 4404, "There is nothing at this path.", "See /openapi.json for the API.", "There is nothing at this address. Check that the whole link was copied.";
    /// The path exists, but not with this HTTP method.
    MethodNotAllowed = "method_not_allowed", 405, 4404, "This path does not support this HTTP method.", "See /openapi.json for the API.", "There is nothing at this address. Check that the whole link was copied.";
    /// No form of the content that the client accepts.
    NotAcceptable = "not_acceptable", 406, 4400, "This exists in no form that the request accepts.", "Accept the encoding `identity`, `gzip` or `br`.", "This did not work. Please tell the people who run this page.";
    /// No such session.
    UnknownSession = "unknown_session", 404, 4404, "There is no such session.", "`anteroom sessions` and GET /api/sessions list those that there are; start a new one if it was removed.", "There is nothing here any more. Go back to where you came from and start again.";
    /// No such credential.
    UnknownCredential = "unknown_credential", 404, 4404, "There is no such credential.", "List the credentials to see which exist.", "This saved sign-in is not there any more.";
    /// A caller that is no browser, where only a browser can do something.
    NotABrowser = "not_a_browser", 403, 4403, "Only a browser that is signed in can do this.", "Use the page in a browser; a token is ended with `anteroom token revoke`.", "You are not signed in here. Open your link again, or go back to where you came from and start again.";
    /// No such webhook message.
    UnknownMessage = "unknown_message", 404, 4404, "There is no such message to the webhook.", "`anteroom webhook list` shows the messages; those that are done are removed after seven days.", "This did not work. Please tell the people who run this page.";
    /// A webhook message that waits to be sent.
    MessagePending = "message_pending", 409, 4409, "This message to the webhook is pending already.", "Wait: it is sent again by itself; `anteroom webhook list` shows when, and the last error.", "This did not work. Please tell the people who run this page.";
    /// No such provider.
    UnknownProvider = "unknown_provider", 400, 4400, "There is no such provider.", "`anteroom providers list` and GET /api/providers list the providers.", "This tool is not offered here. Choose another one.";
    /// The image lacks the provider's tool.
    ProviderUnavailable = "provider_unavailable", 409, 4409, "The machine image does not contain this provider's tool.", "Add it to `[image]` in the configuration (docs/providers.md), then run `anteroom image build`.", "This tool is not installed here. Choose another one, or tell the people who run this page.";
    /// The connection was idle for too long.
    IdleTimeout = "idle_timeout", 408, 4408, "The connection was idle for too long.", "Connect again while the session is active, or start a new one.", "The connection was not used for too long. Please connect again.";
    /// What was requested does not exist yet.
    NotReady = "not_ready", 409, 4409, "The machine is not ready yet.", "Try again in a moment.", "It is not ready yet. Please try again in a moment.";
    /// The tool's sign-in has shown no address yet.
    NoSignInUrl = "no_sign_in_url", 409, 4409, "The tool has not shown an address to open yet.", "Wait a moment, or look at the terminal.", "The sign-in page is not known yet. Please wait a moment.";
    /// A text was pasted, but the tool does not wait for one.
    NoPrompt = "no_prompt", 409, 4409, "The tool is not waiting for input at the moment.", "Look at the terminal: it shows what the tool asks.", "The tool does not ask for anything at the moment, so nothing was sent.";
    /// An answer that does not match the pattern of the prompt.
    WrongAnswer = "wrong_answer", 422, 4422, "This is not what the tool asks for; it was not passed on.", "Compare it with the expected form in the detail; a code can have several lines.", "This is not what the tool asks for, so it was not sent. Compare it with the note at the field; a code can have several lines.";
    /// The callback address of another sign-in.
    WrongCallback = "wrong_callback", 422, 4422, "This address belongs to another sign-in; it was not used.", "Copy the address that your browser shows at the end of this sign-in.", "This address belongs to another sign-in. Copy the address that your browser shows at the end of this one.";
    /// A text that is no callback address, and the tool waits for one.
    CallbackExpected = "callback_expected", 422, 4422, "The tool waits for the callback address, and reads nothing else; the text was not passed on.", "Paste the whole address at which the browser ended; it begins with http://localhost or http://127.0.0.1.", "Paste the whole address of the page at which your browser ended. It has localhost or 127.0.0.1 in it.";
    /// The address of the sign-in page, at which the sign-in begins.
    SignInPagePasted = "sign_in_page_pasted", 422, 4422, "This is the address of the sign-in page, not what the sign-in ends with; it was not passed on.", "Sign in there; then paste the code or the address with which it ends.", "This is the address of the sign-in page. Sign in there first, then paste the code or the address with which it ends.";
    /// The tool did not answer at its callback address.
    CallbackFailed = "callback_failed", 502, 4502, "The tool did not answer at its callback address.", "Look at the terminal; start the sign-in again there or in the page.", "The tool did not accept the address. Please start the sign-in again.";
    /// A sign-in method that the provider does not have.
    UnknownMethod = "unknown_method", 400, 4400, "The provider has no such sign-in method.", "`anteroom providers list` and GET /api/providers list its methods.", "This tool has no such way to sign in. Choose another one.";
    /// A viewer that has not agreed to sign in for the session's owner.
    ConsentRequired = "consent_required", 403, 4403, "You have not agreed to this sign-in yet.", "Open the session's page: it shows who asks for the credential.", "Please agree to this sign-in first.";
    /// The policy forbids it.
    ForbiddenByPolicy = "forbidden_by_policy", 403, 4403, "This provider's storage policy does not allow that.", "`anteroom providers list` and GET /api/providers show each provider's policy.", "That is not allowed for this tool.";
    /// A `deliver_once` credential that was delivered.
    AlreadyDelivered = "already_delivered", 410, 4410, "This credential was delivered once and then deleted here.", "Sign in again.", "This sign-in was handed over once and is not kept here. Please sign in again.";
    /// A credential whose other uses must end first.
    CredentialInUse = "credential_in_use", 409, 4409, "Another use of this credential has not ended.", "End the other use, or wait until it has ended, then try again.", "This saved sign-in is in use. Please try again later.";
    /// A renewal that names another user than the credential.
    OtherUser = "other_user", 409, 4409, "The credential that this would renew belongs to another user_id.", "Send the user_id of the credential, or none; for another user start a sign-in without `renews`.", "This saved sign-in belongs to another person. Go back to where you came from and start again.";
    /// A credential of another account than the one that it would replace.
    OtherAccount = "other_account", 409, 4409, "Another account was signed in than the credential's.", "Sign in with the account of the credential; for another account start a sign-in without `renews`.", "You signed in with another account than before. Start again and use the earlier account.";
    /// A session in whose machine no commands run.
    NoCommands = "no_commands", 403, 4403, "No further commands run in this session.", "Use a session of `anteroom exec`: this one is a sign-in, a check or a sign-out.", "This did not work. Please tell the people who run this page.";
    /// The credential's tool has no such command.
    NoSuchCommand = "no_such_command", 409, 4409, "The tool has no command for that.", "The detail names it; use the tool itself with `anteroom exec`.", "This tool cannot do that.";
    /// A process that may not use the operator's socket.
    PeerNotPermitted = "peer_not_permitted", 403, 4403, "This process may not use the operator's socket.", "Run the command on the server's host, outside of machines and containers, or use an API token.", "This did not work. Please tell the people who run this page.";
    /// An idempotency key used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", 409, 4409, "This idempotency key was used for a different request.", "Use a new key for a new request.", "That was already requested in another form. Please reload this page and try again.";
    /// The body is larger than allowed.
    TooLarge = "too_large", 413, 4413, "The body is larger than this server accepts.", "Send less; the limit of a delivery is 1 MiB.", "That text is too long.";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, 4400, "The body must be JSON.", "Send `Content-Type: application/json` and a JSON body.", "This did not work. Please tell the people who run this page.";
    /// The delivered file does not have the provider's credential format.
    InvalidCredentialFormat = "invalid_credential_format", 422, 4422, "The delivered file is not a credential of this provider.", "The detail names the missing keys; the tool's version may have changed the format.", "Your sign-in could not be saved. Please tell the people who sent you here.";
    /// Too many viewers.
    TooManyViewers = "too_many_viewers", 429, 4429, "This session has reached its maximum number of viewers.", "Close another viewer first.", "This is open in too many windows. Close one, then try again.";
    /// A viewer whose place another one needed.
    ViewerReplaced = "viewer_replaced", 429, 4429, "A newer viewer took the place of this one.", "Close a viewer that is not needed, then connect again.", "This was opened in another window, which took the place of this one.";
    /// Too many helpers.
    TooManyHelpers = "too_many_helpers", 429, 4429, "This session has as many helpers and open invitations as it may have.", "End the access of one first.", "There are as many helpers as there may be. End the access of one first.";
    /// Requests arrive faster than the caller, or the address, may send them.
    TooManyRequests = "too_many_requests", 429, 4429, "Requests of this kind arrive too fast.", "Wait as long as Retry-After names, then try again; docs/limits.md lists the limits.", "That was a little too fast. Please wait a moment and try again.";
    /// Too many event streams at once.
    TooManyStreams = "too_many_streams", 429, 4429, "There are too many event streams at once.", "Close one first; docs/limits.md lists the limits.", "This is open in too many windows. Close one, then try again.";
    /// A request body that arrives too slowly.
    RequestTimeout = "request_timeout", 408, 4408, "The request's body did not arrive in time.", "Send the request again, faster; docs/limits.md lists the limits.", "Your connection is slow. Please try again.";
    /// Connections, or bytes of unauthenticated requests, that exceed what the server holds.
    TooManyConnections = "too_many_connections", 503, 4503, "The server has too many connections of clients without a valid token or cookie.", "Try again in a moment; reuse connections.", "Too many people are here at the moment. Please try again in a moment.";
    /// An internal error.
    Internal = "internal", 500, 4500, "Something failed inside the server.", "The server's log has the cause; search it for the time and the session.", "Something went wrong here. Please try again, or tell the people who run this page.";
    /// A stored record that does not belong to its row, or was changed.
    RecordTampered = "record_tampered", 500, 4500, "The stored record was changed or moved outside of this server; it is not opened.", "Tell the operator: `anteroom doctor` names the record. Sign in again to replace it, and find out who can write to the database.", "This saved sign-in cannot be used any more. Please sign in again.";
    /// The desktop does not answer.
    DesktopUnreachable = "desktop_unreachable", 502, 4502, "The machine does not answer on its desktop.", "The server is connecting again; connect again in a few seconds.", "The remote browser does not answer at the moment. It connects again by itself.";
    /// The machine's agent does not answer.
    AgentUnreachable = "agent_unreachable", 502, 4502, "The machine's agent does not answer.", "The server is connecting again; try again in a few seconds.", "The temporary computer does not answer at the moment. Please try again in a few seconds.";
    /// The database cannot be used.
    DatabaseUnavailable = "database_unavailable", 503, 4503, "The database cannot be used at the moment.", "Try again; the server's health page names the cause.", "This is not available at the moment. Please try again in a moment.";
    /// A deed that reveals a secret and cannot be recorded.
    AuditUnavailable = "audit_unavailable", 503, 4503, "This cannot be recorded in the audit trail at the moment, so it was not done.", "Free disk space below the state directory, then try again; the server's log has the cause.", "This is not available at the moment. Please try again later.";
    /// No capacity for another machine.
    NoCapacity = "no_capacity", 503, 4503, "There is no capacity for another machine.", "Try again later.", "No computer is free at the moment. Please try again later.";
    /// A caller's share of the queue or of the machines is in use.
    CallerQuota = "caller_quota", 429, 4429, "This caller has as many waiting sessions or machines as it may have.", "Wait until some of its sessions have ended, or cancel some; the detail names the limit.", "Too many sign-ins are waiting at the moment. Please try again later.";
    /// A user's share of the queue is in use.
    UserQuota = "user_quota", 429, 4429, "This user has as many waiting sessions as a user may have.", "Wait until some of the user's sessions have ended, or cancel some; the detail names the limit.", "You have started too many sign-ins. Finish or stop one, then try again.";
    /// Too little memory for another machine.
    MemoryLow = "memory_low", 503, 4503, "This host has too little memory for another machine.", "Try again later; end sessions that are not needed, or give the host more memory.", "No computer is free at the moment. Please try again later.";
    /// Too little disk for another session.
    DiskLow = "disk_low", 503, 4503, "This host's disk is nearly full.", "Free disk space below the state directory; `anteroom doctor --leaks` lists orphaned files.", "No computer is free at the moment. Please try again later.";
    /// This host has lost contact with its cluster.
    ClusterContactLost = "cluster_contact_lost", 503, 4503, "This host has lost contact with its cluster, so it does nothing for its sessions.", "Try again in a moment: it goes on when it has contact again, or another host takes its sessions over.", "The connection was cut off for a moment. Please wait: it goes on by itself.";
    /// The host of the cluster that holds the session does not answer.
    HostUnreachable = "host_unreachable", 503, 4511, "The host of this session does not answer.", "Wait: the detail says when another host takes over; `anteroom host list` shows the hosts.", "The computer that runs this does not answer at the moment. This page goes on by itself: please wait.";
    /// A request that another host passed on for a session that this one does not hold.
    OwnerMoved = "owner_moved", 421, 4409, "Another host of the cluster holds this session.", "Try again: the session moves to another host.", "It is not ready yet. Please try again in a moment.";
    /// No such host of the cluster.
    UnknownHost = "unknown_host", 404, 4404, "The cluster has no such host.", "`anteroom host list` shows the hosts.", "This did not work. Please tell the people who run this page.";
    /// A host that cannot be removed or fenced now.
    HostInUse = "host_in_use", 409, 4409, "The host still has sessions, or may still be running.", "Drain it first (`anteroom host drain`), and wait until its sessions have ended; the detail says more.", "This did not work. Please tell the people who run this page.";
    /// A server that is alone.
    NotClustered = "not_clustered", 409, 4409, "This server is not one of several hosts.", "Configure the section [cluster] (docs/cluster.md).", "This did not work. Please tell the people who run this page.";
    /// The server is stopping.
    ShuttingDown = "shutting_down", 503, 4503, "The server is shutting down.", "Try again in a moment.", "This page restarts at the moment. Please try again in a moment.";
    /// The machine was replaced.
    MachineReplaced = "machine_replaced", 409, 4510, "The machine was replaced by a new one.", "Connect again: the session has a new machine.", "The temporary computer stopped. A new one is ready: please sign in again.";
    /// A restart was requested, but the session has no restart left.
    NoRestartLeft = "no_restart_left", 409, 4409, "This session has used all its restarts.", "Continue with this machine, or start a new session.", "No further computer can be started for this sign-in. Continue here, or start again.";
    /// A restart was requested while a credential is being delivered.
    DeliveryInProgress = "delivery_in_progress", 409, 4409, "A credential is being delivered; replacing the machine now would lose it.", "Wait a moment; the diagnosis shows the progress.", "Your sign-in is being saved. Please wait a moment.";
    /// No such external machine.
    UnknownMachine = "unknown_machine", 404, 4404, "There is no external machine of this name.", "Use a name from [external_machines] in the configuration.", "This computer is not known here. Please tell the people who sent you here.";
    /// Another active session uses the external machine.
    MachineInUse = "machine_in_use", 409, 4409, "Another session uses this external machine.", "Wait until that session has ended, or end it.", "This computer is in use. Please try again later.";
    /// A request that only a cloned machine can serve.
    ExternalDesktopOnly = "external_desktop_only", 409, 4409, "On an external machine this server reaches only the desktop.", "Use the desktop: it shows the machine's own terminal and browser.", "That is not possible on this computer. Use its screen instead.";
    /// No route to an external machine.
    ExternalNoRoute = "external_no_route", 502, 4502, "There is no route to the external machine.", "Check that its name resolves and that this host has a route to its network.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// No such key.
    UnknownKey = "unknown_key", 404, 4404, "There is no key with this number.", "`anteroom keys list` shows the keys.", "This did not work. Please tell the people who run this page.";
    /// A key that records or new records need.
    KeyInUse = "key_in_use", 409, 4409, "This key is still needed.", "Run `anteroom keys rotate` if it is the primary key, and wait until all records are rewrapped.", "This did not work. Please tell the people who run this page.";
    /// Keys that the server cannot change.
    KeysReadOnly = "keys_read_only", 409, 4409, "The server cannot change the keys: another program provides them.", "Change the file from which the service manager loads them, with the option --key-file, then restart the server.", "This did not work. Please tell the people who run this page.";
    /// The key file or the PKCS#11 token cannot be used.
    KeysUnavailable = "keys_unavailable", 503, 4503, "The keys cannot be read or written.", "The detail names the cause; correct it, then try again.", "This did not work. Please tell the people who run this page.";
    /// An external machine refused the connection.
    ExternalRefused = "external_refused", 502, 4502, "The external machine refuses connections to its desktop.", "Start the websockify or VNC server there, and check its port.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// An external machine did not accept the connection in time.
    ExternalTimeout = "external_timeout", 504, 4502, "The external machine did not accept the connection in time.", "Check that it is switched on and that no firewall drops the packets between it and this host.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// An external desktop that sent nothing.
    ExternalSilent = "external_silent", 504, 4502, "The external machine accepted the connection, but its desktop sent nothing in time.", "Check there whether the VNC server hangs or another program uses the port.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// An external desktop that closed the connection.
    ExternalClosed = "external_closed", 502, 4502, "The external machine accepted the connection and closed it before its desktop was open.", "Check there whether the VNC server behind the websockify runs and accepts more viewers.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// The certificate of an external desktop is not accepted.
    ExternalCertificate = "external_certificate", 502, 4502, "The certificate of the external machine's desktop is not accepted.", "Renew the certificate there, or set the machine's ca_file or certificate_sha256 in the configuration.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// An external desktop that does not speak TLS.
    ExternalNoTls = "external_no_tls", 502, 4502, "The desktop of the external machine does not speak TLS as its address requires.", "Compare the scheme of its address: wss:// is for websockify with a certificate, vncs:// for a TLS proxy, vencrypt:// for a VNC server with X509None or X509Vnc.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// A service that is not a VNC server.
    ExternalWrongProtocol = "external_wrong_protocol", 502, 4502, "The service on the external machine is not a VNC server.", "Compare scheme, port and path of its address: ws:// is for websockify, vnc:// for a VNC server.", "The computer for this sign-in cannot be reached. Please try again later, or tell the people who sent you here.";
    /// An external desktop without a security type that is supported.
    ExternalSecurityUnsupported = "external_security_unsupported", 502, 4511, "The external desktop offers no way to sign in that is supported.", "The detail names what it offers and what to set there; docs/external_machines.md has a table of desktops.", "The screen of the computer for this sign-in cannot be shown here. Please tell the people who sent you here.";
    /// An external desktop that does not accept the configured user or password.
    ExternalPasswordRejected = "external_password_rejected", 502, 4511, "The external desktop does not accept the configured sign-in.", "Compare the machine's user and password_file with what is set at the desktop; of a VNC password, only the first 8 bytes count.", "The computer for this sign-in does not let us in. Please tell the people who sent you here.";
    /// An external desktop that refuses the connection in its handshake.
    ExternalRejected = "external_rejected", 502, 4511, "The external desktop refused the connection.", "The detail has its reason; after too many wrong passwords, wait until it accepts connections again or restart it.", "The computer for this sign-in does not let us in at the moment. Please try again later, or tell the people who sent you here.";
    /// A viewer that does not speak RFB 3.8 with the offered security type.
    ViewerHandshake = "viewer_handshake", 400, 4400, "The viewer must use RFB 3.8 and the security type that it is offered.", "Use the page, or a viewer that speaks RFB 3.8.", "This program cannot show the screen. Please open your link in a browser.";
}

impl Problem {
    /// The API error with this code, if there is one; never [`Problem::Ended`].
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|problem| problem.code() == code)
    }

    /// The JSON body for this problem. `detail` describes the particular case; `""`: no detail.
    pub fn with_detail(self, detail: impl Into<String>) -> ProblemBody {
        let detail = detail.into();
        ProblemBody {
            code: self.code().to_owned(),
            sentence: self.sentence().to_owned(),
            detail: (!detail.is_empty()).then_some(detail),
            remedy: self.remedy().to_owned(),
            for_person: self.for_person().into(),
            close_code: self.close_code(),
        }
    }
}

/// For the person whose link was used before, if it is known for whom they sign in.
pub const LINK_USED: &str = "This link was used before or has expired. Go back to {owner} and start again.";

/// An error of the HTTP API: problem details (RFC 9457) with what [`ProblemBody`] has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ProblemDetails {
    /// `urn:anteroom:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same as `sentence`.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// `urn:anteroom:request:` and the id of the request, which the header `X-Request-Id` and the server's log have, too.
    pub instance: String,
    /// The problem.
    #[serde(flatten)]
    pub problem: ProblemBody,
    /// The display name of the owner of the session to which a used link led; absent: it is not known, or has no name of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl ProblemDetails {
    /// The details of this body, in the answer to the request of this id.
    pub fn new(problem: ProblemBody, status: u16, request_id: &str) -> Self {
        Self {
            kind: format!("urn:anteroom:problem:{}", problem.code),
            title: problem.sentence.clone(),
            status,
            instance: format!("urn:anteroom:request:{request_id}"),
            problem,
            owner: None,
        }
    }

    /// The same for the person with a used link of this owner's session: the sentence names the owner.
    #[must_use]
    pub fn with_owner(mut self, owner: &str) -> Self {
        self.problem.for_person = LINK_USED.replace("{owner}", owner).into();
        self.owner = Some(owner.to_owned());
        self
    }
}

/// A problem as JSON; sent with the problem's HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ProblemBody {
    /// The stable code, for programs.
    pub code: String,
    /// What happened, for operators and backends.
    pub sentence: String,
    /// The details of this case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do, for operators and backends.
    pub remedy: String,
    /// What happened and what to do, for the person at a page. Empty from an agent of an older image.
    #[serde(default)]
    #[cfg_attr(feature = "utoipa", schema(value_type = String, required))]
    pub for_person: Box<str>,
    /// The WebSocket close code of the same cause.
    #[cfg_attr(feature = "utoipa", schema(schema_with = close_code_schema))]
    pub close_code: u16,
}

impl ProblemBody {
    /// The problem that this body describes; `None` if its code is unknown. An end reason and an API error can have the same code: the
    /// close code decides.
    pub fn problem(&self) -> Option<Problem> {
        let ended = self.close_code == EndReason::CLOSE_CODE;
        let reason = EndReason::from_code(&self.code).filter(|_| ended);
        reason.map(Problem::Ended).or_else(|| Problem::from_code(&self.code))
    }
}

/// The schema of [`ProblemBody::close_code`]: it lists all close codes, so that clients can check that they handle each.
#[cfg(feature = "utoipa")]
fn close_code_schema() -> utoipa::openapi::schema::Object {
    let codes = Problem::ALL.iter().map(|problem| problem.close_code());
    let codes: std::collections::BTreeSet<u16> = codes.chain([EndReason::CLOSE_CODE]).collect();
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::Integer)
        .description(Some("The WebSocket close code of the same cause."))
        .enum_values(Some(codes))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain_words::operator_word;
    use std::collections::HashSet;

    #[test]
    fn each_error_has_a_sentence_for_the_person_without_words_for_operators() {
        let ends = EndReason::ALL.iter().map(|reason| Problem::Ended(*reason));
        for problem in Problem::ALL.iter().copied().chain(ends) {
            let text = problem.for_person();
            assert!(text.ends_with('.') && text.len() > 15, "{problem:?}: {text}");
            assert_eq!(operator_word(text), None, "{problem:?}: {text}");
        }
        assert_eq!(operator_word(LINK_USED), None);
    }

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: HashSet<_> = Problem::ALL.iter().map(|problem| problem.code()).collect();
        assert_eq!(codes.len(), Problem::ALL.len());
        for problem in Problem::ALL {
            assert!((400..600).contains(&problem.http_status()), "{problem:?}");
            assert!((4400..4600).contains(&problem.close_code()), "{problem:?}");
            assert_eq!(Problem::from_code(problem.code()), Some(*problem));
            assert_eq!(problem.with_detail("").problem(), Some(*problem));
        }
    }

    #[test]
    fn every_close_reason_fits_into_a_close_frame() {
        // A close frame carries at most 123 bytes of reason (RFC 6455 §5.5): "code: sentence".
        let ends = EndReason::ALL.iter().map(|reason| Problem::Ended(*reason));
        for problem in Problem::ALL.iter().copied().chain(ends) {
            assert!(problem.code().len() + 2 + problem.sentence().len() <= 123, "{problem:?}");
        }
    }

    /// One row for each API error, sorted by close code, HTTP status and code.
    fn error_table() -> String {
        let mut all = Problem::ALL.to_vec();
        all.sort_by_key(|problem| (problem.close_code(), problem.http_status(), problem.code()));
        let rows = all.into_iter().map(|problem| {
            let (close, http) = (problem.close_code(), problem.http_status());
            format!("| {close} | {http} | `{}` | {} | {} |\n", problem.code(), problem.sentence(), problem.remedy())
        });
        let titles = "| close code | HTTP | code | meaning | what to do |\n|---|---|---|---|---|\n";
        titles.to_owned() + &rows.collect::<String>()
    }

    /// One row for each end reason, in the order of the enum.
    fn end_table() -> String {
        let rows = EndReason::ALL.iter();
        let rows =
            rows.map(|reason| format!("| `{}` | {} | {} |\n", reason.code(), reason.sentence(), reason.remedy()));
        "| code | meaning | what to do |\n|---|---|---|\n".to_owned() + &rows.collect::<String>()
    }

    /// The page with this table between the markers of this name.
    fn with_table(page: &str, name: &str, table: &str) -> String {
        let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
        let (head, rest) = page.split_once(&begin).expect("the marker before the table");
        let (_, tail) = rest.split_once(&end).expect("the marker after the table");
        format!("{head}{begin}{table}{end}{tail}")
    }

    /// `ANTEROOM_WRITE_DOCS=1` rewrites the tables in the page.
    #[test]
    fn docs_close_codes_matches_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/close_codes.md");
        let page = std::fs::read_to_string(path).unwrap();
        let wanted = with_table(&with_table(&page, "API errors", &error_table()), "end reasons", &end_table());
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page == wanted, "docs/close_codes.md differs from the tables; ANTEROOM_WRITE_DOCS=1 writes them");
    }
}

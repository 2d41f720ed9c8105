//! A fake identity provider for Codex: the device flow of `codex login --device-auth`, and the authorize page of `codex login`. It
//! listens with plain HTTP, or with TLS under the provider's host name ([`CodexIssuer::start_tls`]).
//!
//! ```text
//!  POST /api/accounts/deviceauth/usercode ─▶ { device_auth_id, user_code, interval }
//!  POST /api/accounts/deviceauth/token    ─▶ 403 until approved, then { authorization_code, code_challenge, code_verifier };
//!                                            400 once the code has expired
//!  GET  /oauth/authorize?…                ─▶ 302 http://…:1455/auth/callback?code=…&state=…
//!  POST /oauth/token (form)               ─▶ { id_token, access_token, refresh_token, … }, once per code
//! ```
//!
//! Every token is random, so that a test can search for it where it must not be ([`CodexIssuer::issued_secrets`]).

mod authorize;

use crate::{
    code_flow::{CONSENT_SHOWN_PATH, ConsentRequirement, IssuerState, TokenRequest, parse_form, random_hex},
    test_ca::{TestCa, TlsServer},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, task::AbortHandle};

/// The provider's host name, which the released tool connects to.
pub const HOST_NAME: &str = "auth.openai.com";
/// The lifetime of the tokens, seconds.
const TOKEN_S: u64 = 3_600;

/// When the user approves the device code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceCodeApproval {
    /// After this number of polls that were answered with "pending".
    AfterPolls(u32),
    /// When the test calls [`CodexIssuer::approve_device_code`].
    OnCommand,
}

/// The issuer. Stops when dropped.
#[derive(Debug)]
pub struct CodexIssuer {
    address: SocketAddr,
    device_flow: Arc<Mutex<DeviceFlow>>,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Http(AbortHandle),
    #[expect(dead_code, reason = "dropping the server stops it")]
    Tls(TlsServer),
}

#[derive(Debug)]
struct DeviceFlow {
    approval: DeviceCodeApproval,
    approved: bool,
    expired: bool,
    polls: u32,
    device: String,
    user_code: String,
    code: String,
    verifier: String,
    /// Whether the code was exchanged, which is possible once.
    exchanged: bool,
    /// The authorize page of `codex login`.
    issuer: IssuerState,
}

impl CodexIssuer {
    /// Listens with plain HTTP on a free loopback port.
    ///
    /// # Errors
    /// No port, or no random bytes.
    pub async fn start(approval: DeviceCodeApproval) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (device_flow, router) = DeviceFlow::open(approval)?;
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, device_flow, listener: Listener::Http(task.abort_handle()) })
    }

    /// Listens with TLS, as [`HOST_NAME`], on a free loopback port.
    ///
    /// # Errors
    /// No port, no certificate, or no random bytes.
    pub async fn start_tls(ca: &TestCa, approval: DeviceCodeApproval) -> io::Result<Self> {
        let (device_flow, router) = DeviceFlow::open(approval)?;
        let server = TlsServer::start(ca, &[HOST_NAME], router).await?;
        Ok(Self { address: server.address(), device_flow, listener: Listener::Tls(server) })
    }

    /// The egress gate's overrides for an issuer that was started by [`start_tls`](Self::start_tls).
    pub fn host_overrides(&self) -> BTreeMap<String, SocketAddr> {
        BTreeMap::from([(format!("{HOST_NAME}:443"), self.address)])
    }

    /// Makes the authorize page show the consent page.
    pub fn require_consent(&self) {
        self.device_flow.lock().issuer.consent_page = ConsentRequirement::Required;
    }

    /// How many times a browser that runs scripts has displayed the consent page.
    pub fn consent_view_count(&self) -> u32 {
        self.device_flow.lock().issuer.consent_views
    }

    /// The number of codes that the authorize page has granted.
    pub fn issued_code_count(&self) -> usize {
        self.device_flow.lock().issuer.issued_code_count()
    }

    /// The reasons why the authorize page or the token endpoint rejected requests, in order.
    pub fn rejections(&self) -> Vec<String> {
        self.device_flow.lock().issuer.rejections.clone()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The device code that a user types.
    pub fn user_code(&self) -> String {
        self.device_flow.lock().user_code.clone()
    }

    /// Approves the device code, as the user does.
    pub fn approve_device_code(&self) {
        self.device_flow.lock().approved = true;
    }

    /// Lets the device code expire: the tool's next poll fails.
    pub fn expire_device_code(&self) {
        self.device_flow.lock().expired = true;
    }

    /// The number of times the tool has polled for the approval.
    pub fn poll_count(&self) -> u32 {
        self.device_flow.lock().polls
    }

    /// The secrets it has issued. None of these may be found in a log, a database, an API response or a page.
    pub fn issued_secrets(&self) -> Vec<String> {
        self.device_flow.lock().issuer.issued_secrets.clone()
    }

    /// The paths of requests for which this issuer has no endpoint: a sign that the tool has changed.
    pub fn unknown_requests(&self) -> Vec<String> {
        self.device_flow.lock().issuer.unknown_requests.clone()
    }
}

impl Drop for CodexIssuer {
    fn drop(&mut self) {
        match &self.listener {
            Listener::Http(task) => task.abort(),
            Listener::Tls(_) => {}
        }
    }
}

impl DeviceFlow {
    fn open(approval: DeviceCodeApproval) -> io::Result<(Arc<Mutex<Self>>, Router)> {
        let user_code = random_hex(4)?.to_ascii_uppercase();
        let device_flow = Self {
            approval,
            approved: false,
            expired: false,
            polls: 0,
            device: format!("da_{}", random_hex(8)?),
            user_code: format!("{}-{}", &user_code[..4], &user_code[3..]),
            code: format!("ac_{}", random_hex(12)?),
            verifier: random_hex(32)?,
            exchanged: false,
            issuer: IssuerState::default(),
        };
        let device_flow = Arc::new(Mutex::new(device_flow));
        let router = Router::new()
            .route("/api/accounts/deviceauth/usercode", post(create_user_code))
            .route("/api/accounts/deviceauth/token", post(poll))
            .route("/oauth/authorize", get(authorize::get_authorize_page))
            .route("/oauth/token", post(exchange_code))
            .route(CONSENT_SHOWN_PATH, get(authorize::record_consent_shown))
            .route("/favicon.ico", get(|| async { StatusCode::NOT_FOUND }))
            .fallback(unknown_call)
            .with_state(device_flow.clone());
        Ok((device_flow, router))
    }

    /// Whether an exchange is valid.
    fn exchange(&mut self, form: &BTreeMap<String, String>) -> bool {
        let text = |key: &str| form.get(key).cloned().unwrap_or_default();
        if text("code") == self.code {
            return !std::mem::replace(&mut self.exchanged, true);
        }
        let request = TokenRequest { verifier: form.get("code_verifier").cloned(), ..TokenRequest::parse(text) };
        self.issuer.exchange_code(&request).is_ok()
    }
}

type Shared = State<Arc<Mutex<DeviceFlow>>>;

async fn create_user_code(State(shared): Shared) -> Response {
    let device_flow = shared.lock();
    Json(json!({ "device_auth_id": device_flow.device, "user_code": device_flow.user_code, "interval": "1" }))
        .into_response()
}

async fn poll(State(shared): Shared, body: Bytes) -> Response {
    let parameters: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut device_flow = shared.lock();
    if parameters["device_auth_id"] != device_flow.device.as_str() {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "unknown device_auth_id" }))).into_response();
    }
    device_flow.polls += 1;
    if device_flow.expired {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "expired_token" }))).into_response();
    }
    let approved_by_polls = match device_flow.approval {
        DeviceCodeApproval::AfterPolls(pending) => device_flow.polls > pending,
        DeviceCodeApproval::OnCommand => false,
    };
    if !(approved_by_polls || device_flow.approved) {
        return (StatusCode::FORBIDDEN, Json(json!({ "error": "pending" }))).into_response();
    }
    let challenge = URL_SAFE_NO_PAD.encode(device_flow.verifier.as_bytes());
    Json(json!({ "authorization_code": device_flow.code, "code_challenge": challenge, "code_verifier": device_flow.verifier }))
        .into_response()
}

async fn exchange_code(State(shared): Shared, body: Bytes) -> Response {
    let mut device_flow = shared.lock();
    let form = parse_form(&String::from_utf8_lossy(&body));
    if form.get("grant_type").is_none_or(|grant| grant != "authorization_code") || !device_flow.exchange(&form) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    match tokens() {
        Ok((answer, canaries)) => {
            device_flow.issuer.issued_secrets.extend(canaries);
            Json(answer).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A token response, and its tokens.
fn tokens() -> io::Result<(Value, Vec<String>)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = |kind: &str| -> io::Result<String> {
        let head = json!({ "alg": "none", "typ": "JWT" });
        let claims = json!({
            "iss": "https://issuer.test", "aud": ["app"], "iat": now, "exp": now + TOKEN_S, "jti": random_hex(16)?, "use": kind,
            "email": "ada@example.test",
            "https://api.openai.com/auth": {
                "chatgpt_account_id": "acc_1", "chatgpt_user_id": "user_1", "chatgpt_plan_type": "plus", "user_id": "user_1",
            },
        });
        Ok(format!("{}.{}.{}", part(&head), part(&claims), random_hex(16)?))
    };
    let (id, access, refresh) = (token("id")?, token("access")?, format!("rt_{}", random_hex(16)?));
    let answer = json!({
        "id_token": id, "access_token": access, "refresh_token": refresh,
        "token_type": "Bearer", "expires_in": TOKEN_S, "scope": "openid profile email offline_access",
    });
    Ok((answer, vec![id, access, refresh]))
}

async fn unknown_call(State(shared): Shared, uri: Uri) -> StatusCode {
    shared.lock().issuer.unknown_requests.push(uri.path().to_owned());
    StatusCode::NOT_FOUND
}

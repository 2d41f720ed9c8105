//! A stand-in for the identity provider of Codex: the device flow as `codex login --device-auth` speaks it, and the page of
//! `codex login`. Under a name of its own over plain HTTP, or under the provider's ([`CodexIssuer::under_its_name`]).
//!
//! ```text
//!  POST /api/accounts/deviceauth/usercode ─▶ { device_auth_id, user_code, interval }
//!  POST /api/accounts/deviceauth/token    ─▶ 403 until approved, then { authorization_code, code_challenge, code_verifier };
//!                                            400 once the code is refused
//!  GET  /oauth/authorize?…                ─▶ 302 http://…:1455/auth/callback?code=…&state=…
//!  POST /oauth/token (form)               ─▶ { id_token, access_token, refresh_token, … }, once per code
//! ```
//!
//! Every token is random, so that a test can look for it where it must not be ([`CodexIssuer::canaries`]).

mod authorize;

use crate::{
    code_flow::{Brought, Consent, Desk as Flow, SHOWN, chance, pairs},
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
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, task::AbortHandle};

/// The name that the released tool knows it by.
pub const NAME: &str = "auth.openai.com";
/// How long the tokens live, seconds.
const TOKEN_S: u64 = 3_600;

/// When a person is taken to have approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// After that many polls were told to wait.
    AfterPolls(u32),
    /// When the test says so: [`CodexIssuer::approve`].
    OnCommand,
}

/// The issuer. Stops when dropped.
#[derive(Debug)]
pub struct CodexIssuer {
    address: SocketAddr,
    desk: Arc<Mutex<Desk>>,
    serves: Serves,
}

/// What ends with it.
#[derive(Debug)]
enum Serves {
    Plainly(AbortHandle),
    #[expect(dead_code, reason = "dropping the server ends it")]
    Securely(TlsServer),
}

#[derive(Debug)]
struct Desk {
    approval: Approval,
    approved: bool,
    refused: bool,
    polls: u32,
    device: String,
    user_code: String,
    code: String,
    verifier: String,
    /// The code was exchanged: it is good once.
    exchanged: bool,
    /// The page of `codex login`.
    flow: Flow,
}

impl CodexIssuer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port, or no random bytes.
    pub async fn start(approval: Approval) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (desk, router) = Desk::open(approval)?;
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, desk, serves: Serves::Plainly(task.abort_handle()) })
    }

    /// The same as [`NAME`], over TLS.
    ///
    /// # Errors
    /// No port, no certificate, or no random bytes.
    pub async fn under_its_name(ca: &TestCa, approval: Approval) -> io::Result<Self> {
        let (desk, router) = Desk::open(approval)?;
        let server = TlsServer::start(ca, &[NAME], router).await?;
        Ok(Self { address: server.address(), desk, serves: Serves::Securely(server) })
    }

    /// What the egress gate is to answer for one [`under_its_name`](Self::under_its_name).
    pub fn answers(&self) -> BTreeMap<String, SocketAddr> {
        BTreeMap::from([(format!("{NAME}:443"), self.address)])
    }

    /// From now on the authorize page asks the person.
    pub fn ask_the_person(&self) {
        desk(&self.desk).flow.consent = Consent::Asked;
    }

    /// How often the page that asks was shown in a browser that runs scripts.
    pub fn shown(&self) -> u32 {
        desk(&self.desk).flow.shown
    }

    /// How many codes were handed out at the authorize page.
    pub fn granted(&self) -> usize {
        desk(&self.desk).flow.granted_count()
    }

    /// Why the page or the token endpoint refused, in order.
    pub fn refusals(&self) -> Vec<String> {
        desk(&self.desk).flow.refusals.clone()
    }

    /// Where it listens, for the egress gate's answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The code a person would type.
    pub fn user_code(&self) -> String {
        desk(&self.desk).user_code.clone()
    }

    /// The person approves.
    pub fn approve(&self) {
        desk(&self.desk).approved = true;
    }

    /// The code is worth nothing from now on: whoever asks for it is told so.
    pub fn refuse(&self) {
        desk(&self.desk).refused = true;
    }

    /// How often the tool asked whether the person has approved.
    pub fn polls(&self) -> u32 {
        desk(&self.desk).polls
    }

    /// Secrets it has issued: none of these may be found in a log, a database, an API answer or a page.
    pub fn canaries(&self) -> Vec<String> {
        desk(&self.desk).flow.canaries.clone()
    }

    /// Paths that were asked for and that a Codex issuer does not have: a sign that the tool has changed.
    pub fn strangers(&self) -> Vec<String> {
        desk(&self.desk).flow.strangers.clone()
    }
}

impl Drop for CodexIssuer {
    fn drop(&mut self) {
        match &self.serves {
            Serves::Plainly(task) => task.abort(),
            Serves::Securely(_) => {}
        }
    }
}

impl Desk {
    fn open(approval: Approval) -> io::Result<(Arc<Mutex<Self>>, Router)> {
        let user_code = chance(4)?.to_ascii_uppercase();
        let desk = Self {
            approval,
            approved: false,
            refused: false,
            polls: 0,
            device: format!("da_{}", chance(8)?),
            user_code: format!("{}-{}", &user_code[..4], &user_code[3..]),
            code: format!("ac_{}", chance(12)?),
            verifier: chance(32)?,
            exchanged: false,
            flow: Flow::default(),
        };
        let desk = Arc::new(Mutex::new(desk));
        let router = Router::new()
            .route("/api/accounts/deviceauth/usercode", post(user_code_wanted))
            .route("/api/accounts/deviceauth/token", post(polled))
            .route("/oauth/authorize", get(authorize::authorize))
            .route("/oauth/token", post(exchanged))
            .route(SHOWN, get(authorize::shown))
            .route("/favicon.ico", get(|| async { StatusCode::NOT_FOUND }))
            .fallback(stranger)
            .with_state(desk.clone());
        Ok((desk, router))
    }

    /// Whether what was brought is worth tokens.
    fn exchange(&mut self, form: &BTreeMap<String, String>) -> bool {
        let text = |key: &str| form.get(key).cloned().unwrap_or_default();
        if text("code") == self.code {
            return !std::mem::replace(&mut self.exchanged, true);
        }
        let brought = Brought {
            code: text("code"),
            client_id: text("client_id"),
            redirect_uri: text("redirect_uri"),
            verifier: form.get("code_verifier").cloned(),
            state: None,
        };
        self.flow.exchange(&brought).is_ok()
    }
}

type Shared = State<Arc<Mutex<Desk>>>;

fn desk(shared: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn user_code_wanted(State(shared): Shared) -> Response {
    let desk = desk(&shared);
    Json(json!({ "device_auth_id": desk.device, "user_code": desk.user_code, "interval": "1" })).into_response()
}

async fn polled(State(shared): Shared, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut desk = desk(&shared);
    if asked["device_auth_id"] != desk.device.as_str() {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "unknown device_auth_id" }))).into_response();
    }
    desk.polls += 1;
    if desk.refused {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "expired_token" }))).into_response();
    }
    let by_now = match desk.approval {
        Approval::AfterPolls(pending) => desk.polls > pending,
        Approval::OnCommand => false,
    };
    if !(by_now || desk.approved) {
        return (StatusCode::FORBIDDEN, Json(json!({ "error": "pending" }))).into_response();
    }
    let challenge = URL_SAFE_NO_PAD.encode(desk.verifier.as_bytes());
    Json(json!({ "authorization_code": desk.code, "code_challenge": challenge, "code_verifier": desk.verifier }))
        .into_response()
}

async fn exchanged(State(shared): Shared, body: Bytes) -> Response {
    let mut desk = desk(&shared);
    let form = pairs(&String::from_utf8_lossy(&body));
    if form.get("grant_type").is_none_or(|grant| grant != "authorization_code") || !desk.exchange(&form) {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    match tokens() {
        Ok((answer, canaries)) => {
            desk.flow.canaries.extend(canaries);
            Json(answer).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The answer with its tokens, and the tokens alone.
fn tokens() -> io::Result<(Value, Vec<String>)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = |kind: &str| -> io::Result<String> {
        let head = json!({ "alg": "none", "typ": "JWT" });
        let claims = json!({
            "iss": "https://issuer.test", "aud": ["app"], "iat": now, "exp": now + TOKEN_S, "jti": chance(16)?, "use": kind,
            "email": "ada@example.test",
            "https://api.openai.com/auth": {
                "chatgpt_account_id": "acc_1", "chatgpt_user_id": "user_1", "chatgpt_plan_type": "plus", "user_id": "user_1",
            },
        });
        Ok(format!("{}.{}.{}", part(&head), part(&claims), chance(16)?))
    };
    let (id, access, refresh) = (token("id")?, token("access")?, format!("rt_{}", chance(16)?));
    let answer = json!({
        "id_token": id, "access_token": access, "refresh_token": refresh,
        "token_type": "Bearer", "expires_in": TOKEN_S, "scope": "openid profile email offline_access",
    });
    Ok((answer, vec![id, access, refresh]))
}

async fn stranger(State(shared): Shared, uri: Uri) -> StatusCode {
    desk(&shared).flow.strangers.push(uri.path().to_owned());
    StatusCode::NOT_FOUND
}

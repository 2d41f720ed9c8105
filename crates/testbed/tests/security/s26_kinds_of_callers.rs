//! Who may do what: every route and socket with callers of the wrong kind, owner, role or scope, and with revoked and expired ones.

use crate::{
    fixture::start_idle_session,
    idle_session::Idle,
    raw_http::{RawConnection, head},
};
use anteroom_controller::caller::{Action, Caller, Resource, permits};
use anteroom_server::http::routes::{Access, ROUTES, Route};
use anteroom_store::{CallerKind, LoginScope, NewBrowser, NewCaller, NewLoginToken, Role, Sha256Hex, Store};
use anteroom_testbed::TestServer;
use anteroom_wire::{CallerId, Scope, Secret, SessionId};
use reqwest::{Client, Method};
use serde_json::Value;

/// The walk sends hundreds of requests from one address in a few seconds: rates have their own tests.
pub(crate) const RATES: &str = "[limits.rates.bundle]\nper_s = 1000\nburst = 10000\n[limits.rates.lease]\nper_s = 1000\nburst = 10000\n\
    [limits.rates.ticket]\nper_s = 1000\nburst = 10000\n[limits.rates.start]\nper_s = 1000\nburst = 10000\n\
    [limits.rates.login]\nper_s = 1000\nburst = 10000\n[limits.rates.stream]\nper_s = 1000\nburst = 10000\n\
    [limits.rates.change]\nper_s = 1000\nburst = 10000\n[limits.rates.failed_identification]\nper_s = 1000\nburst = 10000\n";

/// A caller as it is stored, and its secret.
pub(crate) struct Known {
    pub(crate) caller: Caller,
    pub(crate) secret: Secret,
}

/// Stores a caller in the server's database, as another process would.
pub(crate) async fn store_caller(store: &Store, number: u8, change: impl FnOnce(&mut NewCaller)) -> Known {
    let now = anteroom_controller::unix_time::now_unix_ms();
    let id = CallerId::from_parts(now, [number; 10]);
    let mut new = NewCaller::api_token(id, Role::Backend, format!("caller {number}"), &Secret::new(String::new()), now);
    change(&mut new);
    let secret = Secret::new(format!("{}{number:064}", new.kind.secret_prefix().unwrap()));
    new.secret = Sha256Hex::of_secret(&secret);
    let row = store.create_caller(&new).await.unwrap();
    if matches!(row.kind, CallerKind::BrowserCookie | CallerKind::ViewerCookie) {
        let browser = NewBrowser {
            caller: row.id.clone(),
            key: Sha256Hex::of_bytes("5a".repeat(32).as_bytes()),
            description: "test".to_owned(),
            address: "127.0.0.1".to_owned(),
            person: None,
            confirmed_at_ms: now,
            now_ms: now,
        };
        store.create_browser(&browser).await.unwrap();
    }
    Known { caller: Caller::from(row), secret }
}

/// Opens the database of a running server.
pub(crate) async fn open_store(server: &TestServer) -> Store {
    crate::fake_agent::store(server).await
}

/// How a request shows a secret.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Bearer,
    OperatorCookie,
    ViewerCookie,
}

struct Walk {
    client: Client,
    base: String,
    session: SessionId,
    requests: u32,
}

impl Walk {
    /// Sends one request to every route that requires a caller, and returns those whose status is not expected. `expected` is given the
    /// action and returns no status for a route that must not be called.
    async fn deny(&mut self, who: &str, shown: Option<(Shown, &Secret)>, expected: impl Fn(Action) -> Option<u16>) {
        for Route { method, path: pattern, access, .. } in ROUTES {
            let Access::Caller(action) = access else { continue };
            let Some(expected) = expected(*action) else { continue };
            let id = match *pattern {
                pattern if pattern.contains("/credentials/") => "crd_00000000000000000000000000",
                pattern if pattern.contains("/tokens/") || pattern.contains("/browsers/") => {
                    "cal_00000000000000000000000001"
                }
                pattern if pattern.contains("/keys/") => "1",
                _ => self.session.as_str(),
            };
            let path = pattern.replace("{id}", id).replace("{helper}", "cal_00000000000000000000000001");
            let (status, text) = self.send(method.as_str(), &path, shown).await;
            assert_eq!(status, expected, "{who}: {method} {pattern}: {text}");
        }
    }

    async fn send(&mut self, method: &str, path: &str, shown: Option<(Shown, &Secret)>) -> (u16, String) {
        self.requests += 1;
        let method: Method = method.parse().unwrap();
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).header("x-anteroom", "5a".repeat(32));
        request = match shown {
            None => request,
            Some((Shown::Bearer, secret)) => request.bearer_auth(secret.expose()),
            Some((Shown::OperatorCookie, secret)) => request.header("cookie", operator_cookies(secret)),
            Some((Shown::ViewerCookie, secret)) => request.header("cookie", viewer_cookies(&self.session, secret)),
        };
        let response = request.header("content-type", "application/json").body("{}").send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

/// The cookie of an operator's browser, under each name that a server may give it.
pub(crate) fn operator_cookies(secret: &Secret) -> String {
    format!("anteroom={0}; __Host-anteroom={0}", secret.expose())
}

/// The cookie of a session, under each name that a server may give it.
pub(crate) fn viewer_cookies(session: &SessionId, secret: &Secret) -> String {
    format!("anteroom_view_{session}={0}; __Host-anteroom_view_{session}={0}", secret.expose())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a list of callers")]
async fn s26_no_route_or_socket_accepts_a_caller_that_is_not_permitted() {
    let (_flags, server, api, id) = start_idle_session(RATES).await;
    let store = open_store(&server).await;
    let base = format!("http://{}", server.address().unwrap());
    let mut walk =
        Walk { client: Client::builder().no_proxy().build().unwrap(), base, session: id.clone(), requests: 0 };

    let document: Value = api.get("/openapi.json").await.unwrap().parse().unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let listed =
                |route: &&Route| route.method.as_str().eq_ignore_ascii_case(method) && route.path == path.as_str();
            assert_eq!(ROUTES.iter().filter(listed).count(), 1, "{method} {path} is in the table of routes");
        }
    }
    walk.deny("no caller", None, |_| Some(401)).await;

    let as_browser = |new: &mut NewCaller| (new.kind, new.role) = (CallerKind::BrowserCookie, Role::Operator);
    let as_viewer = |new: &mut NewCaller| (new.kind, new.role) = (CallerKind::ViewerCookie, Role::Viewer(id.clone()));
    let browser = store_caller(&store, 1, as_browser).await;
    let viewer = store_caller(&store, 2, as_viewer).await;
    let operator =
        store_caller(&store, 3, |new| (new.role, new.scopes) = (Role::Operator, Role::Operator.scopes())).await;
    let login_token = Secret::new("login_00000000".to_owned());
    let link = NewLoginToken {
        hash: Sha256Hex::of_secret(&login_token),
        scope: LoginScope::Operator { name: "n".to_owned() },
        creator: None,
        expires_at_ms: u64::MAX / 4,
    };
    store.create_login_token(&link).await.unwrap();
    let ticket = Secret::new(api.create_ticket(&id, "desktop").await.unwrap().ticket);
    for (who, shown, secret) in [
        ("an API token as an operator's cookie", Shown::OperatorCookie, &operator.secret),
        ("an API token as a viewer's cookie", Shown::ViewerCookie, &operator.secret),
        ("an operator's cookie as a bearer token", Shown::Bearer, &browser.secret),
        ("an operator's cookie as a viewer's", Shown::ViewerCookie, &browser.secret),
        ("a viewer's cookie as a bearer token", Shown::Bearer, &viewer.secret),
        ("a viewer's cookie as an operator's", Shown::OperatorCookie, &viewer.secret),
        ("a login token as a bearer token", Shown::Bearer, &login_token),
        ("a login token as an operator's cookie", Shown::OperatorCookie, &login_token),
        ("a ticket as a bearer token", Shown::Bearer, &ticket),
        ("a ticket as a viewer's cookie", Shown::ViewerCookie, &ticket),
    ] {
        walk.deny(who, Some((shown, secret)), |_| Some(401)).await;
    }
    for secret in [&operator.secret, &browser.secret, &viewer.secret, &ticket] {
        let (status, text) = walk.send("GET", "/api/agent/session", Some((Shown::Bearer, secret))).await;
        assert_eq!(status, 401, "as an agent token: {text}");
    }

    let expired = store_caller(&store, 4, |new| new.expires_at_ms = Some(new.created_at_ms)).await;
    let revoked = store_caller(&store, 5, |_| {}).await;
    store.revoke_caller(&revoked.caller.id, 1).await.unwrap();
    walk.deny("expired", Some((Shown::Bearer, &expired.secret)), |_| Some(401)).await;
    walk.deny("revoked", Some((Shown::Bearer, &revoked.secret)), |_| Some(401)).await;

    // The role and the scopes are checked before the resource, so the answer does not depend on it.
    let denied = |caller: &Caller, action| permits(caller, action, Resource::Server).is_err().then_some(403);
    let auditor = store_caller(&store, 6, |new| (new.role, new.scopes) = (Role::Auditor, Role::Auditor.scopes())).await;
    let helper =
        store_caller(&store, 7, |new| (new.kind, new.role) = (CallerKind::ViewerCookie, Role::Helper(id.clone())))
            .await;
    let other = store_caller(&store, 8, |_| {}).await;
    walk.deny("auditor", Some((Shown::Bearer, &auditor.secret)), |action| denied(&auditor.caller, action)).await;
    walk.deny("helper", Some((Shown::ViewerCookie, &helper.secret)), |action| denied(&helper.caller, action)).await;
    walk.deny("viewer", Some((Shown::ViewerCookie, &viewer.secret)), |action| denied(&viewer.caller, action)).await;
    walk.deny("backend", Some((Shown::Bearer, &other.secret)), |action| denied(&other.caller, action)).await;
    for (number, scope) in (10..).zip(Scope::ALL.iter().copied()) {
        let of_one_scope =
            |new: &mut NewCaller| (new.role, new.scopes) = (Role::Operator, [scope].into_iter().collect());
        let known = store_caller(&store, number, of_one_scope).await;
        let who = format!("operator with the scope {scope} only");
        walk.deny(&who, Some((Shown::Bearer, &known.secret)), |action| denied(&known.caller, action)).await;
    }

    // Another owner: its own resources are permitted, these are not.
    let foreign = [Action::ReadSession, Action::ReadScreen, Action::ViewDesktop, Action::ControlSession];
    let not_owner = |action| foreign.contains(&action).then_some(403);
    walk.deny("other backend", Some((Shown::Bearer, &other.secret)), not_owner).await;
    let other_session = api.start_session("scripted").await.unwrap().session.id;
    let elsewhere = store_caller(&store, 9, |new| {
        (new.kind, new.role) = (CallerKind::ViewerCookie, Role::Viewer(other_session.clone()));
    });
    let elsewhere = elsewhere.await;
    // Under the name of this session's cookie it is no cookie at all.
    walk.deny("viewer of another session", Some((Shown::ViewerCookie, &elsewhere.secret)), |_| Some(401)).await;

    for socket in ["novnc/websock", "terminal"] {
        let path = format!("/api/auth/session/{id}/{socket}");
        for secret in [&operator.secret, &browser.secret, &viewer.secret, &revoked.secret, &login_token] {
            let offered = format!("binary, ticket.{}", secret.expose());
            walk.requests += 1;
            assert!(api.open_websocket(&path, &offered, false).await.is_err(), "{socket} with {offered}");
        }
    }
    println!("{} requests were denied", walk.requests);
    assert!(walk.requests > 600, "{}", walk.requests);
    assert!(!api.get_session(&id).await.unwrap().status.is_ended(), "no denied request had an effect");
    store.close().await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn s26_request_with_two_authorization_headers_identifies_no_caller() {
    let idle = Idle::start("").await;
    for other in ["Authorization: Bearer ant_guessed\r\n", "Authorization: Basic YTpi\r\n", &idle.operator_line()] {
        for lines in [format!("{}{other}", idle.operator_line()), format!("{other}{}", idle.operator_line())] {
            let mut connection = RawConnection::send_new(&idle.server, head(&idle.server, "GET /api/me", &lines)).await;
            assert_eq!(connection.read_response().await.expect("an answer").0, 401, "{other}");
        }
    }
    let one = head(&idle.server, "GET /api/me", &idle.operator_line());
    let mut connection = RawConnection::send_new(&idle.server, one).await;
    assert_eq!(connection.read_response().await.expect("an answer").0, 200);
    idle.finish().await;
}

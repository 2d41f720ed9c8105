//! The helpers of a session: who sees them, who ends them, and what ends with them.

use crate::{
    browser_client::Browser,
    helper_invitations::{login_token, post, start},
    s10_audit::records,
};
use anteroom_rfb::client::{RfbClient, ViewerSocket};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use anteroom_wire::api::{HelperList, HelperStatus, HelperView};
use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::Instant;
use tokio::{io::AsyncReadExt, time::timeout};

/// Helpers and open invitations of one session (docs/limits.md).
const HELPERS_MAX: usize = 20;

/// Invites a helper and returns the link's login token.
async fn invite(person: &Browser, session: &str, name: &str) -> String {
    let (status, invitation) = post(person, &format!("{session}/invitations"), json!({ "name": name })).await;
    assert_eq!(status, 200, "{invitation}");
    login_token(invitation["url"].as_str().unwrap()).to_owned()
}

/// Invites a helper and opens the link in a browser.
pub(crate) async fn admit(
    server: &TestServer,
    person: &Browser,
    session: &str,
    name: &str,
    key_digit: &str,
) -> Browser {
    let mut helper = Browser::new(server, key_digit);
    assert_eq!(helper.log_in(&invite(person, session, name).await).await.status(), 204);
    helper
}

async fn list(browser: &Browser, session: &str) -> Vec<HelperView> {
    let response = browser.request(Method::GET, &format!("{session}/helpers")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    serde_json::from_str::<HelperList>(&response.text().await.unwrap()).unwrap().helpers
}

fn find<'l>(helpers: &'l [HelperView], name: &str) -> &'l HelperView {
    helpers.iter().find(|helper| helper.name == name).unwrap_or_else(|| panic!("{name} is not in {helpers:?}"))
}

async fn end(browser: &Browser, session: &str, helper: &HelperView) -> (u16, String) {
    browser.status(Method::DELETE, &format!("{session}/helpers/{}", helper.id)).await
}

/// An event stream of a session.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(browser: &Browser, session: &str) -> Self {
        let request = browser.request(Method::GET, &format!("{session}/events")).header("accept", "text/event-stream");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    /// The data of the next event with this name; `None`: the stream has ended.
    async fn next(&mut self, name: &str) -> Option<String> {
        let next = async {
            loop {
                while let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    if event.lines().any(|line| line == format!("event: {name}")) {
                        return event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                    }
                }
                let chunk = self.response.chunk().await.ok().flatten()?;
                self.text.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        timeout(WAIT_MAX, next).await.expect("an event, or the end of the stream")
    }

    /// Waits until the list of helpers is as wanted.
    async fn wait_helpers(&mut self, wanted: impl Fn(&[HelperView]) -> bool) -> Vec<HelperView> {
        loop {
            let data = self.next("helpers").await.expect("the stream is open");
            let list: HelperList = serde_json::from_str(&data).unwrap();
            if wanted(&list.helpers) {
                return list.helpers;
            }
        }
    }
}

/// Opens the desktop as a page of this browser.
pub(crate) async fn open_desktop(server: &TestServer, browser: &Browser, session: &str) -> RfbClient<ViewerSocket> {
    let (status, ticket) = post(browser, &format!("{session}/ticket"), json!({ "purpose": "desktop" })).await;
    assert_eq!(status, 200, "{ticket}");
    let offered = format!("binary, ticket.{}", ticket["ticket"].as_str().unwrap());
    let pages = server.anonymous_client().unwrap();
    let socket = pages.open_websocket(&format!("{session}/novnc/websock"), &offered, true).await.unwrap();
    RfbClient::connect(socket, 60_000).await.unwrap()
}

#[tokio::test]
async fn helper_that_is_ended_loses_cookie_socket_event_stream_and_ticket_at_once() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let helper = admit(&server, &person, &session, "Grace", "b").await;
    let kept = admit(&server, &person, &session, "Linus", "c").await;
    let mut desktop = open_desktop(&server, &helper, &session).await;
    desktop.request_full_frame().await.unwrap();
    let mut kept_desktop = open_desktop(&server, &kept, &session).await;
    let mut events = Events::open(&helper, &session).await;
    events.next("session").await.unwrap();
    let (_, ticket) = post(&helper, &format!("{session}/ticket"), json!({ "purpose": "desktop" })).await;
    let grace = find(&list(&person, &session).await, "Grace").clone();
    assert_eq!(grace.status, HelperStatus::Connected);

    let began = Instant::now();
    assert_eq!(end(&person, &session, &grace).await.0, 204);
    let closed = events.next("closed").await.expect("the stream names the reason");
    assert!(closed.contains("\"code\":\"helper_ended\""), "{closed}");
    assert_eq!(events.next("session").await, None, "nothing follows");
    let mut socket = desktop.into_inner();
    timeout(WAIT_MAX, socket.read_to_end(&mut Vec::new())).await.expect("the socket is closed").ok();
    let closing = socket.close_reason().expect("closed with a code");
    assert_eq!((closing.code, closing.reason.split(':').next()), (4414, Some("helper_ended")));
    println!("closed {} ms after the request", began.elapsed().as_millis());

    assert_eq!(helper.status(Method::GET, &session).await.0, 401);
    let offered = format!("binary, ticket.{}", ticket["ticket"].as_str().unwrap());
    let pages = server.anonymous_client().unwrap();
    let mut late = pages.open_websocket(&format!("{session}/novnc/websock"), &offered, true).await.unwrap();
    timeout(WAIT_MAX, late.read_to_end(&mut Vec::new())).await.expect("the socket is closed").ok();
    assert_eq!(late.close_reason().expect("closed with a code").code, 4401, "its ticket opens nothing");
    let names: Vec<_> = list(&person, &session).await.into_iter().map(|helper| helper.name).collect();
    assert_eq!(names, ["Linus"]);
    kept_desktop.request_full_frame().await.expect("the other helper goes on");
    assert_eq!(end(&person, &session, &grace).await, (404, "unknown_helper".to_owned()));
    let ended = records(&server).into_iter().find(|record| record["action"] == "helper.end").expect("it is recorded");
    assert_eq!(ended["details"]["helper"], grace.id.as_str(), "{ended}");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn invitation_that_was_not_used_is_listed_and_can_be_ended() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let login = invite(&person, &session, "Grace").await;
    let invited = find(&list(&person, &session).await, "Grace").clone();
    assert_eq!((invited.status, &invited.joined_at), (HelperStatus::Invited, &None));
    assert!(invited.expires_at.is_some());
    assert_eq!(end(&person, &session, &invited).await.0, 204);
    assert_eq!(list(&person, &session).await, []);
    assert_eq!(Browser::new(&server, "b").log_in(&login).await.status(), 401);

    // The id stays the same when the invitation is used.
    let login = invite(&person, &session, "Grace").await;
    let invited = find(&list(&person, &session).await, "Grace").clone();
    let mut helper = Browser::new(&server, "b");
    assert_eq!(helper.log_in(&login).await.status(), 204);
    let admitted = find(&list(&person, &session).await, "Grace").clone();
    assert_eq!((&admitted.id, admitted.status), (&invited.id, HelperStatus::Away));
    assert_eq!(end(&person, &session, &invited).await.0, 204);
    assert_eq!(helper.status(Method::GET, &session).await.0, 401);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn invitation_that_is_ended_while_it_is_used_leaves_no_helper() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    for attempt in 0..20 {
        let login = invite(&person, &session, &format!("Grace {attempt}")).await;
        let invited = list(&person, &session).await.remove(0);
        let mut helper = Browser::new(&server, "b");
        let (signed_in, ended) = tokio::join!(helper.log_in(&login), end(&person, &session, &invited));
        assert_eq!(ended.0, 204, "{ended:?}, {}", signed_in.status());
        assert_eq!(helper.status(Method::GET, &session).await.0, 401, "attempt {attempt}");
        assert_eq!(list(&person, &session).await, []);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn helper_neither_lists_nor_ends_others_and_may_leave() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let grace = admit(&server, &person, &session, "Grace", "b").await;
    let linus = admit(&server, &person, &session, "Linus", "c").await;
    let helpers = list(&person, &session).await;
    assert_eq!(grace.status(Method::GET, &format!("{session}/helpers")).await, (403, "not_owner".to_owned()));
    assert_eq!(end(&grace, &session, find(&helpers, "Linus")).await, (403, "not_owner".to_owned()));
    // The same people as browsers: only the own one.
    let browsers = grace.request(Method::GET, "/api/browsers").send().await.unwrap().text().await.unwrap();
    let browsers: Value = serde_json::from_str(&browsers).unwrap();
    let ids: Vec<_> = browsers["browsers"].as_array().unwrap().iter().map(|browser| &browser["id"]).collect();
    assert_eq!(ids, [find(&helpers, "Grace").id.as_str()]);
    let path = format!("/api/browsers/{}", find(&helpers, "Linus").id);
    assert_eq!(grace.status(Method::DELETE, &path).await.0, 403);
    let mut events = Events::open(&grace, &session).await;
    events.next("session").await.unwrap();

    // Others cannot reach them through their own sessions or ids.
    let stranger = server.other_backend_client().unwrap();
    let path = format!("{session}/helpers");
    assert_eq!(stranger.get(&path).await.unwrap().status, 403);
    let delete = format!("{path}/{}", find(&helpers, "Linus").id);
    assert_eq!(stranger.call(Method::DELETE, &delete, None).await.unwrap().status, 403);
    let other = stranger.start_session("scripted").await.unwrap().session.id;
    let through_other = format!("/api/auth/session/{other}/helpers/{}", find(&helpers, "Linus").id);
    assert_eq!(stranger.call(Method::DELETE, &through_other, None).await.unwrap().status, 404);
    // A caller that is no helper is not ended by this route.
    let own: Value =
        serde_json::from_str(&person.request(Method::GET, "/api/browsers").send().await.unwrap().text().await.unwrap())
            .unwrap();
    let viewer = own["browsers"][0]["id"].as_str().unwrap();
    assert_eq!(person.status(Method::DELETE, &format!("{path}/{viewer}")).await.0, 404);
    assert_eq!(person.status(Method::GET, &session).await.0, 200);
    assert_eq!(linus.status(Method::GET, &session).await.0, 200);

    assert_eq!(end(&grace, &session, find(&helpers, "Grace")).await.0, 204, "it leaves");
    assert!(events.next("helpers").await.is_none(), "its stream never had the list");
    assert_eq!(grace.status(Method::GET, &session).await.0, 401);
    let names: Vec<_> = list(&person, &session).await.into_iter().map(|helper| helper.name).collect();
    assert_eq!(names, ["Linus"]);
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn person_sees_helpers_come_and_leave_and_only_operators_see_their_addresses() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let mut events = Events::open(&person, &session).await;
    assert_eq!(events.wait_helpers(|_| true).await, [], "no helper yet");
    let login = invite(&person, &session, "Grace").await;
    let has_status = |status| move |list: &[HelperView]| list.len() == 1 && list[0].status == status;
    events.wait_helpers(has_status(HelperStatus::Invited)).await;
    let mut helper = Browser::new(&server, "b");
    assert_eq!(helper.log_in(&login).await.status(), 204);
    events.wait_helpers(has_status(HelperStatus::Away)).await;
    let desktop = open_desktop(&server, &helper, &session).await;
    let connected = events.wait_helpers(has_status(HelperStatus::Connected)).await;
    assert_eq!((connected[0].name.as_str(), &connected[0].address), ("Grace", &None));
    assert!(
        connected[0].joined_at.is_some() && connected[0].last_seen_at.is_some() && connected[0].expires_at.is_some()
    );
    drop(desktop);
    events.wait_helpers(has_status(HelperStatus::Away)).await;

    let path = format!("{session}/helpers");
    let of_backend: HelperList = server.backend_client().unwrap().get(&path).await.unwrap().parse().unwrap();
    assert_eq!(of_backend.helpers[0].address, None);
    let of_operator: HelperList = server.operator_client().unwrap().get(&path).await.unwrap().parse().unwrap();
    assert_eq!(of_operator.helpers[0].address.as_deref(), Some("127.0.0.1"));
    assert_eq!(end(&person, &session, &of_operator.helpers[0]).await.0, 204);
    events.wait_helpers(<[HelperView]>::is_empty).await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn helpers_and_open_invitations_of_a_session_are_limited() {
    let (_dir, server, started, person) = start().await;
    let session = format!("/api/auth/session/{}", started.session.id);
    let requests = (0..HELPERS_MAX + 5).map(|number| {
        let (person, path) = (&person, format!("{session}/invitations"));
        async move { post(person, &path, json!({ "name": format!("Helper {number}") })).await }
    });
    let answers: Vec<_> = futures_util::stream::iter(requests).buffer_unordered(8).collect().await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), HELPERS_MAX);
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status != 200).collect();
    assert!(refused.iter().all(|(status, body)| *status == 429 && body["code"] == "too_many_helpers"), "{refused:?}");
    let helpers = list(&person, &session).await;
    assert_eq!(helpers.len(), HELPERS_MAX);
    assert_eq!(end(&person, &session, &helpers[0]).await.0, 204);
    invite(&person, &session, "Grace").await;
    let found = async || Ok((list(&person, &session).await.len() == HELPERS_MAX).then_some(()));
    eventually("a place for another", WAIT_MAX, found).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

//! A sign-in that leads to a company's own identity provider, whose host no descriptor has: an operator allows it for the session.

use crate::{Flags, problem_of};
use anteroom_testbed::{ApiClient, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{RefusedHost, RefusedHostList, ScreenView},
};
use serde_json::json;
use tokio::net::TcpListener;

const SSO: &str = "sso.company.example";

async fn grant(api: &ApiClient, id: &SessionId, host: &str) -> anteroom_testbed::ApiResponse {
    api.post(&format!("/api/auth/session/{id}/hosts"), json!({ "host": host })).await.unwrap()
}

/// The refused host as the operator's page has it.
async fn refused(operator: &ApiClient) -> RefusedHost {
    let list: RefusedHostList = operator.get("/api/egress/refused").await.unwrap().parse().unwrap();
    list.hosts.into_iter().find(|host| host.host == SSO).expect("it was refused")
}

/// Waits until the tool has printed the answer of the gate.
async fn wait_answer(api: &ApiClient, id: &SessionId, number: usize, status: &str) {
    eventually("the gate's answer is on the screen", WAIT_MAX, async || {
        let screen = api.get(&format!("/api/auth/session/{id}/screen")).await?;
        let lines = screen.parse::<ScreenView>().map(|screen| screen.lines).unwrap_or_default();
        let answers: Vec<_> = lines.iter().filter(|line| line.starts_with("CONNECT ")).collect();
        Ok((answers.len() >= number && answers[number - 1].contains(status)).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn r13_operator_allows_a_denied_host_for_a_running_session() {
    let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = Flags::new();
    let authority = format!("{SSO}:443");
    let connect = || Step::ProxyConnect { authority: authority.clone() };
    let provider =
        flags.provider_with_steps([connect(), flags.wait_step("again"), connect(), flags.wait_step("never")]);
    let config = TestConfig::with_provider(provider).with_host_override(&authority, outside.local_addr().unwrap());
    let server = TestServer::start(config).await.unwrap();
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let id = api.start_session("scripted").await.unwrap().session.id;
    let denied = api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
    assert_eq!((denied.data["host"].as_str(), denied.data["reason"].as_str()), (Some(SSO), Some("egress_denied")));
    wait_answer(&operator, &id, 1, "403").await;
    let host = refused(&operator).await;
    assert!(host.grantable && host.newest == id && host.descriptor_change.is_some(), "{host:?}");

    for (client, status) in [(&api, 403), (&server.anonymous_client().unwrap(), 401)] {
        assert_eq!(grant(client, &id, SSO).await.status, status);
    }
    for other in ["other.example", "*.company.example", "127.0.0.1", "sso.company.example:8443", ""] {
        let (status, code, detail) = problem_of(&grant(&operator, &id, other).await);
        assert_eq!((status, code.as_str()), (400, "malformed"), "{other}: {detail}");
    }
    assert_eq!(grant(&operator, &id, "SSO.company.example.").await.status, 204);
    assert_eq!(grant(&operator, &id, SSO).await.status, 204, "once more changes nothing");
    std::fs::write(flags.path("again"), "").unwrap();
    wait_answer(&operator, &id, 2, "200").await;
    let timeline = api.get_timeline(&id).await.unwrap();
    let granted: Vec<_> = timeline.iter().filter(|entry| entry.kind == TimelineKind::EgressGranted).collect();
    assert_eq!(granted.len(), 1, "{granted:?}");
    assert_eq!(granted[0].data, json!({ "host": SSO, "port": 443 }));
    assert!(!refused(&operator).await.grantable);
    let audit = operator.get("/api/audit?action=host.grant").await.unwrap().text;
    assert!(audit.contains(SSO) && audit.contains(id.as_str()), "{audit}");
    api.cancel_session(&id).await.unwrap();
    assert_eq!(problem_of(&grant(&operator, &id, SSO).await).0, 410);
    server.stop_and_check_leaks().await.unwrap();
}

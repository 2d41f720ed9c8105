//! What two hosts of a cluster do for each other: sign-ins of people, erasures, keys.

use crate::{
    Flags,
    browser_client::Browser,
    hosts::{join, start_with, wait_hosts},
    oidc_fixture::{ROLES, new_issuer, oidc_settings},
    postgres::own_server::OwnServer,
};
use anteroom_controller::limits::PeerLimits;
use anteroom_testbed::oidc_issuer::Decision;
use anteroom_wire::{api::StartRequest, hosts::HostState, operator_reports::EraseReport};
use serde_json::json;

#[tokio::test]
async fn sign_ins_of_people_erasures_and_keys_are_of_all_hosts_on_postgres() {
    let (postgres, keys, flags) = (OwnServer::start(&[]).await, tempfile::tempdir().unwrap(), Flags::new());
    let issuer = new_issuer().await;
    let more = format!("{}{ROLES}", oidc_settings(&flags, issuer.url(), &issuer));
    let (first, _) = start_with(&postgres, &flags, keys.path(), "first", &more, PeerLimits::default()).await;
    let (mut second, _) = start_with(&postgres, &flags, keys.path(), "second", &more, PeerLimits::default()).await;
    issuer.register_redirect_uri(&format!("{}/sign-in/callback", first.base_url().unwrap()));
    let operator = first.operator_client().unwrap();
    join(&operator, &mut second).await;
    let other = second.client_with_token(first.operator_token()).unwrap();
    wait_hosts(&operator, HostState::Answers, 2).await;
    wait_hosts(&other, HostState::Answers, 2).await;

    // The provider's answer comes to the other host, once.
    let (here, mut there) = (Browser::new(&first, "a"), Browser::new(&second, "a"));
    let back = issuer.decide(&here.begin("sign-in").await.unwrap(), Decision::SignIn("ada")).await.unwrap();
    assert_eq!(there.finish_sign_in(&back).await.unwrap(), "signed_in");
    assert_eq!(there.get_json("/api/me").await["name"], "Ada Example");
    assert_eq!(there.finish_sign_in(&back).await.unwrap_err().code, "sign_in_expired");

    // Another host would not have the new key.
    let refused = operator.post("/api/keys/rotate", json!({})).await.unwrap();
    assert!(refused.status == 409 && refused.text.contains("the host second has the keys"), "{refused:?}");

    // A user is erased whose session the other host holds.
    let api = second.client_with_token(&first.backend_tokens()[0]).unwrap();
    let request = StartRequest { user_id: Some("ada".to_owned()), ..StartRequest::new("scripted") };
    let id = api.start_session_with(&request).await.unwrap().session.id;
    let runs =
        |view: &anteroom_wire::api::SessionView| view.host.as_deref() == Some("second") && view.sign_in.url.is_some();
    api.wait_until(&id, "on the second host", runs).await.unwrap();
    let erased = operator.post("/api/erase", json!({ "user_id": "ada" })).await.unwrap();
    assert_eq!(erased.status, 200, "{}", erased.text);
    let report: EraseReport = erased.parse().unwrap();
    assert_eq!((report.sessions, report.receipts), (1, 1), "{report:?}");
    assert!(second.list_machines().is_empty() && second.receipts().is_empty());
    second.stop_and_check_leaks().await.unwrap();
    first.stop_and_check_leaks().await.unwrap();
}

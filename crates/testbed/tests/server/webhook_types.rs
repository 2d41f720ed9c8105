//! Every type of webhook message, receivers with filters, the test and another delivery of a message.

use crate::{
    Flags,
    command_line::start_use,
    webhook::{Inbox, KEY, Message, Receiver, complete_session, write_secret},
};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    CredentialId,
    agent::UsePurpose,
    api::SessionStatus,
    operator_reports::WebhookTestResults,
    webhook::{EventType, Presence},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, process::Command};

/// A provider whose credential ends at this time, seconds since 1970.
fn provider(id: &str, ends_s: u64, before: Vec<Step>) -> ScriptedProvider {
    let content = format!("{{\"token\": \"t\", \"until\": {ends_s}}}");
    let steps = before.into_iter().chain([Step::write(ScriptedProvider::CREDENTIAL_PATH, content)]);
    ScriptedProvider::new(id, Script::new(steps)).with_descriptor_key(
        "credential",
        json!({
            "paths": [ScriptedProvider::CREDENTIAL_PATH],
            "required": ["/token"],
            "expires_at": { "pointer": "/until", "unit": "unix_s" },
        }),
    )
}

async fn start(flags: &Flags, all: &Receiver, ends: &Receiver) -> TestServer {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let wait = vec![Step::OpenUrlWithBrowser { url: crate::URL.to_owned() }, flags.wait_step("go")];
    let providers = [
        provider("scripted", now_s + 3_600, wait),
        provider("expired", now_s - 10, Vec::new()),
        ScriptedProvider::new("failing", Script::new([Step::Exit { code: 3 }])),
    ];
    let secret = write_secret(&flags.path("webhook.secret"));
    let receiver = |name: &str, receiver: &Receiver, more: &str| {
        let (address, secret) = (receiver.address, secret.display());
        format!("[[webhook]]\nname = '{name}'\nurl = 'http://{address}/in'\nsecret_file = '{secret}'\n{more}\n")
    };
    let settings = format!(
        "[limits.sessions]\nreconcile_every_ms = 100\n{}{}",
        receiver("all", all, ""),
        receiver("ends", ends, "types = ['session.ended']"),
    );
    TestServer::start(TestConfig::with_providers(providers).with_settings(&settings)).await.unwrap()
}

fn kinds(messages: &[Message]) -> BTreeSet<EventType> {
    messages.iter().map(|message| message.read().kind).collect()
}

/// Does what each type of message reports; returns the credential that expires soon.
async fn cause_all(flags: &Flags, server: &TestServer, api: &ApiClient) -> CredentialId {
    api.start_session("failing").await.unwrap();
    let session = complete_session(flags, api).await;
    let credential = api.get_session(&session).await.unwrap().credential.unwrap().id;
    api.start_session("expired").await.unwrap();
    let exec = start_use(api, credential.as_str(), json!({ "purpose": "exec", "argv": ["true"] })).await;
    api.wait_status(&exec.id, SessionStatus::Completed).await.unwrap();
    api.lease_credential(&credential).await.unwrap();
    assert!(!server.run_anteroom(&["webhook", "test"]).await.unwrap().contains("no connection"));
    credential
}

/// Verifies the messages with the Python libraries of Standard Webhooks and Svix, and the bodies with the schema of the API.
async fn verify_with_libraries(server: &TestServer, messages: &[Message]) {
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let tools = Command::new(format!("{project}/scripts/python_tools.sh")).output().await.unwrap();
    assert!(tools.status.success(), "{}", String::from_utf8_lossy(&tools.stderr));
    let python = Path::new(String::from_utf8(tools.stdout).unwrap().trim()).join("python");
    let document: Value = server.anonymous_client().unwrap().get("/openapi.json").await.unwrap().parse().unwrap();
    let input = json!({
        "secret": format!("whsec_{}", STANDARD.encode(KEY)),
        "document": document,
        "messages": messages.iter().map(Message::to_json).collect::<Vec<_>>(),
    });
    let mut verify = Command::new(python);
    verify.arg(format!("{project}/crates/testbed/tests/server/verify_webhooks.py"));
    let mut verify = verify.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    verify.stdin.take().unwrap().write_all(input.to_string().as_bytes()).await.unwrap();
    let output = verify.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verified: BTreeMap<EventType, u64> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified.len(), EventType::ALL.len(), "{verified:?}");
}

#[tokio::test]
async fn every_type_of_message_is_sent_and_each_receiver_gets_what_it_takes() {
    let (flags, all, ends) = (Flags::new(), Inbox::default(), Inbox::default());
    let (to_all, to_ends) = (Receiver::start(&all).await, Receiver::start(&ends).await);
    let server = start(&flags, &to_all, &to_ends).await;
    let api = server.backend_client().unwrap();
    let credential = cause_all(&flags, &server, &api).await;
    let is_expiring = async || Ok(kinds(&all.messages()).contains(&EventType::CredentialExpiring).then_some(()));
    eventually("the expiry is reported", WAIT_MAX, is_expiring).await.unwrap();
    let deleted = api.call(reqwest::Method::DELETE, &format!("/api/credentials/{credential}"), None).await.unwrap();
    assert_eq!(deleted.status, 204);
    let expected: BTreeSet<_> = EventType::ALL.iter().copied().collect();
    let is_complete = async || Ok((kinds(&all.messages()) == expected).then_some(()));
    eventually("every type is received", WAIT_MAX, is_complete)
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", kinds(&all.messages())));
    for message in all.messages() {
        let notification = message.read();
        for (presence, is_present) in [
            (notification.kind.session(), notification.data.session.is_some()),
            (notification.kind.credential(), notification.data.credential.is_some()),
        ] {
            let expected = match presence {
                Presence::Present => true,
                Presence::Null => false,
                Presence::Sometimes(_) => is_present,
            };
            assert_eq!(is_present, expected, "{notification:?}");
        }
    }
    verify_with_libraries(&server, &all.messages()).await;
    assert_eq!(kinds(&ends.messages()), BTreeSet::from([EventType::SessionEnded, EventType::WebhookTest]));
    let uses: Vec<_> = ends.messages().iter().filter_map(|message| message.read().data.session?.purpose).collect();
    assert_eq!(uses, [UsePurpose::Exec], "the other ends are of sign-ins");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn a_receiver_is_tested_and_gets_a_message_again() {
    let (flags, all, ends) = (Flags::new(), Inbox::default(), Inbox::with_statuses(&[500, 410]));
    let (to_all, to_ends) = (Receiver::start(&all).await, Receiver::start(&ends).await);
    let server = start(&flags, &to_all, &to_ends).await;
    let operator = server.operator_client().unwrap();
    let tested = operator.post("/api/webhook/test", json!({ "receiver": "ends" })).await.unwrap();
    let tested: WebhookTestResults = tested.parse().unwrap();
    let [result] = &tested.results[..] else { panic!("{tested:?}") };
    assert!(result.receiver == "ends" && result.error.as_deref() == Some("it answered 500"), "{result:?}");
    let unknown = operator.post("/api/webhook/test", json!({ "receiver": "unknown" })).await.unwrap();
    assert!(unknown.status == 400 && unknown.text.contains("all, ends"), "{}", unknown.text);
    let api = server.backend_client().unwrap();
    assert_eq!(api.post("/api/webhook/test", json!({})).await.unwrap().status, 403);

    // The end of this session is answered with 410, and is abandoned.
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.cancel_session(&id).await.unwrap();
    let abandoned = ends.wait_messages(2).await.remove(1);
    let is_abandoned = async || {
        let listed = server.run_anteroom(&["webhook", "list"]).await?;
        Ok(listed.lines().any(|line| line.contains(abandoned.id()) && line.contains("abandoned ")).then_some(()))
    };
    eventually("it is abandoned", WAIT_MAX, is_abandoned).await.unwrap();
    server.run_anteroom(&["webhook", "resend", abandoned.id()]).await.unwrap();
    let again = ends.wait_messages(3).await.remove(2);
    assert_eq!((again.id(), again.read()), (abandoned.id(), abandoned.read()));
    let unknown =
        operator.post("/api/webhook/messages/msg_00000000000000000000000000/resend", json!({})).await.unwrap();
    assert!(unknown.status == 404 && unknown.text.contains("\"unknown_message\""), "{}", unknown.text);
    server.stop_and_check_leaks().await.unwrap();
}

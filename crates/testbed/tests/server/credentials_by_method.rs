//! The settings of a credential use: those of the method by which the credential was obtained.

use crate::{
    Flags, URL,
    command_line::{run_cli, start_use, text},
};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{CredentialHealth, CredentialMeta, SessionStatus, SessionView, StartRequest, StartResponse},
};
use serde_json::{Value, json};

const SETTINGS: &str = ".scripted/settings";

fn settings(content: &str) -> Value {
    json!([{ "path": SETTINGS, "content": content }, { "path": format!("{SETTINGS}.{content}"), "content": content }])
}

/// Two methods with different settings. The second method signs in with the setting `asks` and uses the credential with the setting
/// `chosen`; the status command of each confirms only its own setting.
fn provider(flags: &Flags) -> ScriptedProvider {
    let signs_in = |content: &str| {
        [
            Step::OpenUrlWithBrowser { url: URL.to_owned() },
            flags.wait_step("go"),
            Step::write(ScriptedProvider::CREDENTIAL_PATH, content),
        ]
    };
    let status = format!(
        "case $(cat {SETTINGS}):$(cat {}) in usual:*usual*|chosen:*other*) echo Logged in;; esac",
        ScriptedProvider::CREDENTIAL_PATH
    );
    let rules = json!({
        "paths": [ScriptedProvider::CREDENTIAL_PATH], "required": ["/token"], "status_argv": ["sh", "-c", status], "status_matches": "Logged in",
    });
    let differs = json!({
        "label": "The other",
        "settings_files": settings("asks"),
        "use_settings_files": [{ "path": SETTINGS, "content": "chosen" }],
    });
    // The status command also runs during the sign-in: by then the tool has written this setting.
    let chooses = Step::write(SETTINGS, "chosen");
    let other = Script::new([chooses].into_iter().chain(signs_in("{\"token\": \"other\"}")));
    flags
        .provider_with_steps(signs_in("{\"token\": \"usual\"}"))
        .with_descriptor_key("label", json!("The usual"))
        .with_descriptor_key("method", json!("usual"))
        .with_descriptor_key("settings_files", settings("usual"))
        .with_descriptor_key("credential", rules)
        .with_method("other", other, differs)
}

/// Starts a sign-in by a method.
async fn start_sign_in(api: &ApiClient, method: Option<&str>, renews: Option<&str>) -> SessionId {
    let request = StartRequest {
        method: method.map(str::to_owned),
        renews: renews.map(str::to_owned),
        ..StartRequest::new("scripted")
    };
    let body = serde_json::to_value(request).unwrap();
    let started: StartResponse = api.post("/api/auth/start", body).await.unwrap().parse().unwrap();
    started.session.id
}

/// Waits for the stored credential; returns its id.
async fn wait_stored(api: &ApiClient, session: &SessionId) -> String {
    api.wait_status(session, SessionStatus::Completed).await.unwrap().credential.unwrap().id.to_string()
}

/// The settings that a command with this credential finds: the content of the main file, then the names of the others.
async fn settings_in_machine(server: &TestServer, credential: &str) -> String {
    let script = format!("cat {SETTINGS}; for file in {SETTINGS}.*; do echo \" $file\"; done");
    let done = run_cli(server, &["exec", "--credential", credential, "--", "sh", "-c", &script]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    text(&done.stdout).trim_end().to_owned()
}

async fn check(api: &ApiClient, credential: &str) -> (SessionView, CredentialMeta) {
    let session = start_use(api, credential, json!({ "purpose": "check" })).await;
    let view = api.wait_status(&session.id, SessionStatus::Completed).await.unwrap();
    (view, api.get(&format!("/api/credentials/{credential}")).await.unwrap().parse().unwrap())
}

#[tokio::test]
async fn credential_use_applies_the_settings_of_its_sign_in_method() {
    let flags = Flags::new();
    let server = TestServer::start(TestConfig::with_provider(provider(&flags))).await.unwrap();
    let api = server.backend_client().unwrap();
    flags.set("go");
    let usual = wait_stored(&api, &start_sign_in(&api, None, None).await).await;
    let other = wait_stored(&api, &start_sign_in(&api, Some("other"), None).await).await;
    assert_eq!(settings_in_machine(&server, &usual).await, format!("usual {SETTINGS}.usual"));
    assert_eq!(settings_in_machine(&server, &other).await, format!("chosen {SETTINGS}.asks"));
    for (credential, method) in [(&usual, "usual"), (&other, "other")] {
        let (view, meta) = check(&api, credential).await;
        assert_eq!((view.method.as_str(), meta.health), (method, CredentialHealth::Valid), "{}", meta.health_detail);
        let opened = api.wait_entry(&view.id, TimelineKind::CredentialUnsealed).await.unwrap();
        assert_eq!(opened.data["method"], method);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn renewal_by_another_method_changes_the_settings_of_later_uses() {
    let flags = Flags::new();
    let server =
        TestServer::start(TestConfig::with_provider(provider(&flags)).with_settings("[machines]\nmachines_max = 1\n"))
            .await
            .unwrap();
    let api = server.backend_client().unwrap();
    flags.set("go");
    let credential = wait_stored(&api, &start_sign_in(&api, None, None).await).await;
    std::fs::remove_file(flags.path("go")).unwrap();
    let renewing = start_sign_in(&api, Some("other"), Some(&credential)).await;
    api.wait_until(&renewing, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    // It is queued behind the sign-in: when it starts, the stored bytes have changed.
    let waits = start_use(&api, &credential, json!({ "purpose": "check" })).await;
    flags.set("go");
    assert_eq!(wait_stored(&api, &renewing).await, credential);
    let view = api.wait_status(&waits.id, SessionStatus::Completed).await.unwrap();
    let opened = api.wait_entry(&waits.id, TimelineKind::CredentialUnsealed).await.unwrap();
    assert_eq!((opened.data["revision"].as_u64(), opened.data["method"].as_str()), (Some(2), Some("other")));
    assert_eq!(view.method, "other");
    let (later, meta) = check(&api, &credential).await;
    assert_eq!((later.method.as_str(), meta.health), ("other", CredentialHealth::Valid), "{}", meta.health_detail);
    let opened = api.wait_entry(&view.id, TimelineKind::CredentialUnsealed).await.unwrap();
    let expected = if opened.data["revision"] == 1 { "usual" } else { "other" };
    assert_eq!((opened.data["method"].as_str(), view.method.as_str()), (Some(expected), expected));
    assert_eq!(settings_in_machine(&server, &credential).await, format!("chosen {SETTINGS}.asks"));
    server.stop_and_check_leaks().await.unwrap();
}

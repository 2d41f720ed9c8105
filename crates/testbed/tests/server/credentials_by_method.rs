//! A stored credential is used as its own method wants it: with that method's settings, and with those that the tool kept of the sign-in.

use crate::{
    Scene, URL,
    command_line::{anteroom, text, used},
};
use anteroom_testbed::{ApiClient, TestConfig, Script, Step, ScriptedTool, TestServer};
use anteroom_wire::{
    SessionId,
    api::{CredentialHealth, CredentialMeta, SessionView, StartRequest, Started, Status},
};
use serde_json::{Value, json};

const SETTINGS: &str = ".scripted/settings";

fn settings(content: &str) -> Value {
    json!([{ "path": SETTINGS, "content": content }, { "path": format!("{SETTINGS}.{content}"), "content": content }])
}

/// Two methods whose settings differ. The tool of the second must be signed in without the setting `chosen`, and is signed in with it
/// alone; each asks for its own when it is asked for its status.
fn tool(scene: &Scene) -> ScriptedTool {
    let signs_in = |content: &str| {
        [Step::Browser { url: URL.to_owned() }, scene.wait("go"), Step::write(ScriptedTool::CREDENTIAL, content)]
    };
    let status = format!(
        "case $(cat {SETTINGS}):$(cat {}) in usual:*usual*|chosen:*other*) echo Logged in;; esac",
        ScriptedTool::CREDENTIAL
    );
    let rules = json!({
        "paths": [ScriptedTool::CREDENTIAL], "required": ["/token"], "status_argv": ["sh", "-c", status], "status_matches": "Logged in",
    });
    let differs = json!({
        "label": "The other",
        "settings_files": settings("asks"),
        "use_settings_files": [{ "path": SETTINGS, "content": "chosen" }],
    });
    // While somebody signs in the tool is asked as well: by then it has made its choice itself.
    let chooses = Step::write(SETTINGS, "chosen");
    let other = Script::new([chooses].into_iter().chain(signs_in("{\"token\": \"other\"}")));
    scene
        .tool_that(signs_in("{\"token\": \"usual\"}"))
        .with("label", json!("The usual"))
        .with("method", json!("usual"))
        .with("settings_files", settings("usual"))
        .with("credential", rules)
        .with_method("other", other, differs)
}

/// Begins to sign in by a method.
async fn begins(api: &ApiClient, method: Option<&str>, renews: Option<&str>) -> SessionId {
    let request = StartRequest {
        provider: "scripted".into(),
        user_id: None,
        return_url: None,
        idempotency_key: None,
        machine: None,
        method: method.map(str::to_owned),
        renews: renews.map(str::to_owned),
    };
    let body = serde_json::to_value(request).unwrap();
    let started: Started = api.post("/api/auth/start", body).await.unwrap().read().unwrap();
    started.session.id
}

/// The credential once it is there.
async fn stored(api: &ApiClient, session: &SessionId) -> String {
    api.wait_status(session, Status::Completed).await.unwrap().credential.unwrap().id.to_string()
}

/// What a command with it finds: the setting, and which further settings lie beside it.
async fn finds(world: &TestServer, credential: &str) -> String {
    let script = format!("cat {SETTINGS}; for file in {SETTINGS}.*; do echo \" $file\"; done");
    let done = anteroom(world, &["exec", "--credential", credential, "--", "sh", "-c", &script]).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    text(&done.stdout).trim_end().to_owned()
}

async fn checked(api: &ApiClient, credential: &str) -> (SessionView, CredentialMeta) {
    let session = used(api, credential, json!({ "purpose": "check" })).await;
    let view = api.wait_status(&session.id, Status::Completed).await.unwrap();
    (view, api.get(&format!("/api/credentials/{credential}")).await.unwrap().read().unwrap())
}

#[tokio::test]
async fn credential_use_applies_the_settings_of_its_sign_in_method() {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(tool(&scene))).await.unwrap();
    let api = world.backend().unwrap();
    scene.raise("go");
    let usual = stored(&api, &begins(&api, None, None).await).await;
    let other = stored(&api, &begins(&api, Some("other"), None).await).await;
    assert_eq!(finds(&world, &usual).await, format!("usual {SETTINGS}.usual"));
    assert_eq!(finds(&world, &other).await, format!("chosen {SETTINGS}.asks"));
    for (credential, method) in [(&usual, "usual"), (&other, "other")] {
        let (view, meta) = checked(&api, credential).await;
        assert_eq!((view.method.as_str(), meta.health), (method, CredentialHealth::Valid), "{}", meta.health_detail);
        let opened = api.wait_entry(&view.id, "credential_unsealed").await.unwrap();
        assert_eq!(opened.data["method"], method);
    }
    world.finish().await.unwrap();
}

#[tokio::test]
async fn renewal_by_another_method_changes_the_settings_of_later_uses() {
    let scene = Scene::new();
    let world = TestServer::start(TestConfig::with_tool(tool(&scene)).with_settings("[machines]\nmachines_max = 1\n")).await.unwrap();
    let api = world.backend().unwrap();
    scene.raise("go");
    let credential = stored(&api, &begins(&api, None, None).await).await;
    std::fs::remove_file(scene.flag("go")).unwrap();
    let renewing = begins(&api, Some("other"), Some(&credential)).await;
    api.wait_until(&renewing, "showing the address", |view| view.sign_in.url.is_some()).await.unwrap();
    // It stands in line behind the sign-in: by its turn the bytes are others.
    let waits = used(&api, &credential, json!({ "purpose": "check" })).await;
    scene.raise("go");
    assert_eq!(stored(&api, &renewing).await, credential);
    let view = api.wait_status(&waits.id, Status::Completed).await.unwrap();
    let opened = api.wait_entry(&waits.id, "credential_unsealed").await.unwrap();
    assert_eq!((opened.data["revision"].as_u64(), opened.data["method"].as_str()), (Some(2), Some("other")));
    assert_eq!(view.method, "other");
    let (later, meta) = checked(&api, &credential).await;
    assert_eq!((later.method.as_str(), meta.health), ("other", CredentialHealth::Valid), "{}", meta.health_detail);
    let opened = api.wait_entry(&view.id, "credential_unsealed").await.unwrap();
    let expected = if opened.data["revision"] == 1 { "usual" } else { "other" };
    assert_eq!((opened.data["method"].as_str(), view.method.as_str()), (Some(expected), expected));
    assert_eq!(finds(&world, &credential).await, format!("chosen {SETTINGS}.asks"));
    world.finish().await.unwrap();
}

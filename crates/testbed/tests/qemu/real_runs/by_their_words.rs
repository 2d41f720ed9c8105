//! Causes that the tool itself names: declined, expired, a full disk.

use super::*;
use anteroom_wire::diagnosis::Verdict;
use serde_json::json;

/// A tool that fills the home directory before it signs in.
const FILL: &str = "dd if=/dev/zero of=fill bs=1M 2>/dev/null; dd if=/dev/zero of=rest bs=512 2>/dev/null; ";

async fn wait_device_code(api: &ApiClient, id: &SessionId) -> String {
    let shown = api.wait_until(id, "showing a code", |view| view.sign_in.device_code.is_some()).await.unwrap();
    shown.sign_in.device_code.unwrap()
}

/// Pastes a text when the tool shows this prompt.
pub(super) async fn paste(api: &ApiClient, id: &SessionId, prompt: &str, text: &str) {
    let is_open = |view: &SessionView| view.sign_in.prompt.as_ref().is_some_and(|open| open.id == prompt);
    api.wait_until(id, prompt, is_open).await.unwrap();
    let answer = api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": text })).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Adds the demo's method with a device code as a provider, with this script as its command.
fn by_device_code(providers: &mut BTreeMap<String, Provider>, id: &str, script: &str) {
    add_copy(providers, "demo", id, |provider| {
        let method = provider.with_method(&"device_code".to_owned().try_into().unwrap()).unwrap();
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        *provider = Provider { id: provider.id.clone(), argv, ..method };
    });
}

/// Waits until the tool has ended.
async fn wait_exit(api: &ApiClient, id: &SessionId) {
    api.wait_entry(id, TimelineKind::CliExited).await.unwrap();
}

#[tokio::test]
async fn qemu_real_run_of_a_person_who_declines() {
    let world = World::start(Hosts::Answer, "", |_| ()).await;
    let run = |number, what| Run { cause: "declined", number, what, verdict: Verdict::SignInDeclined };

    let (api, id) = world.sign_in("demo", Some("device_code")).await;
    world.decide_device(&wait_device_code(&api, &id).await, "Ada", "deny").await;
    wait_exit(&api, &id).await;
    run(1, "the demo's device code").check(&world, "demo", &id).await;
    if rounds() > 1 {
        let (api, id) = world.sign_in("codex", Some("browser")).await;
        let shown = wait_instructions(&api, &id).await.sign_in;
        let address = shown.url.or(shown.browser_url).unwrap();
        let (_, state) = address.split_once("state=").unwrap();
        let state = state.split('&').next().unwrap();
        let text = format!("http://localhost:1455/auth/callback?error=access_denied&state={state}");
        let answer = api.post(&format!("/api/auth/session/{id}/paste"), json!({ "text": text })).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        run(2, "Codex, pasted callback").check(&world, "codex", &id).await;

        let (api, id) = world.sign_in("demo", Some("link")).await;
        paste(&api, &id, "code", "access_denied").await;
        wait_exit(&api, &id).await;
        run(3, "the demo's link").check(&world, "demo", &id).await;
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_of_a_code_that_expires() {
    let world = World::start(Hosts::Answer, "", |providers| {
        by_device_code(providers, "in_a_shell", "anteroom-demo login --device-code; exit 3");
    })
    .await;
    let run = |number, what| Run { cause: "code_expired", number, what, verdict: Verdict::CodeExpired };
    let (api, id) = world.sign_in("demo", Some("device_code")).await;
    wait_exit(&api, &id).await;
    run(1, "the demo's device code").check(&world, "demo", &id).await;
    if rounds() > 1 {
        let (api, id) = world.sign_in("in_a_shell", None).await;
        wait_exit(&api, &id).await;
        run(2, "the same in a shell").check(&world, "in_a_shell", &id).await;

        let (api, id) = world.sign_in("demo", Some("link")).await;
        paste(&api, &id, "code", &format!("demo_code_{}", "0".repeat(64))).await;
        wait_exit(&api, &id).await;
        run(3, "the demo's code for pasting").check(&world, "demo", &id).await;
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_with_a_full_disk() {
    let world = World::start(Hosts::Answer, "", |providers| {
        let shell = |script: String| {
            move |provider: &mut Provider| {
                provider.argv = vec!["sh".to_owned(), "-c".to_owned(), script];
                provider.methods.clear();
                provider.if_refused = None;
            }
        };
        by_device_code(providers, "full_1", &format!("{FILL}exec anteroom-demo login --device-code"));
        add_copy(providers, "own", "full_2", shell(format!("{FILL}cp /etc/os-release credential.json")));
        add_copy(providers, "own", "full_3", shell(format!("{FILL}set -e; mkdir .own; cat /etc/os-release > .own/x")));
    })
    .await;
    let run = |number, what| Run { cause: "guest_disk_full", number, what, verdict: Verdict::GuestDiskFull };
    let (api, id) = world.sign_in("full_1", None).await;
    world.decide_device(&wait_device_code(&api, &id).await, "Ada", "allow").await;
    wait_exit(&api, &id).await;
    run(1, "the demo stores its credential").check(&world, "full_1", &id).await;
    if rounds() > 1 {
        for (number, provider, what) in [(2, "full_2", "a copy of a file"), (3, "full_3", "output of a shell")] {
            let (api, id) = world.sign_in(provider, None).await;
            wait_exit(&api, &id).await;
            run(number, what).check(&world, provider, &id).await;
        }
    }
    world.close().await;
}

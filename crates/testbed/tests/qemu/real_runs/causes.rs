//! The causes.

use super::*;
use anteroom_testbed::machine_processes::send_signal;
use anteroom_wire::diagnosis::Verdict;

/// The key Return in X.
const RETURN: u32 = 0xff0d;

/// A shell script that asks the machine's proxy for a host of its own, as any tool does, and says what it got.
const OWN_REQUEST: &str = "exec 3<>/dev/tcp/127.0.0.1/3128; \
     printf 'CONNECT api.example.test:443 HTTP/1.1\\r\\nHost: api.example.test:443\\r\\n\\r\\n' >&3; read -r answer <&3; \
     echo \"error: cannot connect: $answer\" >&2; exit 1";

#[tokio::test]
async fn qemu_real_run_of_a_program_that_is_not_there() {
    let world = World::start(Hosts::Answer, "", |providers| {
        let set = |argv: &'static [&str]| {
            move |provider: &mut Provider| {
                provider.argv = argv.iter().map(|&part| part.to_owned()).collect();
                provider.methods.clear();
                provider.if_refused = None;
            }
        };
        add_copy(providers, "demo", "typo_1", set(&["anteroom-dmeo", "login"]));
        add_copy(providers, "codex", "typo_2", set(&["codx", "login", "--device-auth"]));
        add_copy(providers, "own", "typo_3", set(&["sh", "-c", "exec anteroom-dmeo login"]));
        add_copy(providers, "own", "missing_1", set(&["python3", "tool.py"]));
        add_copy(providers, "own", "missing_2", set(&["gh", "auth", "login"]));
        add_copy(providers, "own", "missing_3", set(&["bash", "-c", "opencode auth login"]));
    })
    .await;
    let runs = [
        ("typo_in_argv", "typo", ["the demo's command", "Codex's command", "a command in a shell"]),
        ("tool_missing", "missing", ["an interpreter", "the GitHub CLI", "opencode in a shell"]),
    ];
    for (cause, provider, whats) in runs {
        for (number, what) in (1..=rounds()).zip(whats) {
            let provider = format!("{provider}_{number}");
            let (_, id) = world.sign_in(&provider, None).await;
            Run { cause, number, what, verdict: Verdict::CliNotStarted }.check(&world, &provider, &id).await;
        }
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_with_hosts_that_refuse_connections() {
    let world = World::start(Hosts::RefuseConnections, "", |providers| {
        let rule = EgressRule { host: TOOL_HOST.to_owned(), ports: vec![443], reason: String::new() };
        add_copy(providers, "own", "own_granted", |provider| {
            provider.argv = ["bash", "-c", OWN_REQUEST].map(str::to_owned).to_vec();
            provider.egress.push(rule);
        });
    })
    .await;
    let runs = [("demo", "the demo's issuer"), ("codex", "Codex's issuer"), ("own_granted", "a tool of one's own")];
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, None).await;
        api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
        let run = Run { cause: "provider_down", number, what, verdict: Verdict::EgressUnreachable };
        run.check(&world, provider, &id).await;
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_with_names_that_are_not_granted() {
    let world = World::start(Hosts::Answer, "", |providers| {
        for id in ["demo", "codex"] {
            add_copy(providers, id, &format!("{id}_without"), |provider| provider.egress.clear());
        }
        add_copy(providers, "own", "own_without", |provider| {
            provider.argv = ["bash", "-c", OWN_REQUEST].map(str::to_owned).to_vec();
        });
    })
    .await;
    let runs = [
        ("demo_without", "the demo's issuer"),
        ("codex_without", "Codex's issuer"),
        ("own_without", "the host of a tool of one's own"),
    ];
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        let (_, id) = world.sign_in(provider, None).await;
        let run = Run { cause: "name_not_granted", number, what, verdict: Verdict::EgressDenied };
        run.check(&world, provider, &id).await;
    }
    let runs = [("demo", "while the demo waits"), ("codex", "while Codex waits"), ("own", "while a shell waits")];
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, None).await;
        wait_running(&api, &id).await;
        open_page_with_tracker(&api, &id).await;
        let run = Run { cause: "name_of_a_page_not_granted", number, what, verdict: Verdict::WaitingForUser };
        run.check(&world, provider, &id).await;
    }
    world.close().await;
}

/// Opens a page in the machine's browser whose picture is on a host that is not granted, and waits until that is refused.
async fn open_page_with_tracker(api: &ApiClient, id: &SessionId) {
    let open = serde_json::json!({ "url": format!("http://{PAGE_HOST}/") });
    let answer = api.post(&format!("/api/auth/session/{id}/open-url"), open).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text);
    let denied = api.wait_entry(id, TimelineKind::EgressDenied).await.unwrap();
    assert_eq!((&denied.data["host"], &denied.data["by"]), (&"tracker.example.test".into(), &"browser".into()));
}

#[tokio::test]
async fn qemu_real_run_of_a_killed_machine_and_of_an_idle_session() {
    let settings = "[sessions]\nrestarts_max = 0\nidle_s_max = 20\n";
    let world = World::start(Hosts::Answer, settings, |_| ()).await;
    let runs = [("demo", "while the demo waits"), ("codex", "while Codex waits"), ("own", "while a shell waits")];
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, None).await;
        wait_running(&api, &id).await;
        if provider != "own" {
            wait_instructions(&api, &id).await;
        }
        let (_, processes) = world.server.only_machine().unwrap();
        send_signal(processes.process, rustix::process::Signal::KILL).unwrap();
        let run = Run { cause: "machine_killed", number, what, verdict: Verdict::MachineKilled };
        run.check(&world, provider, &id).await;
        world.server.wait_machines_removed().await.unwrap();
    }
    let mut idle = Vec::new();
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        // A device code prolongs its session until it expires.
        let (_, id) = world.sign_in(provider, (provider == "codex").then_some("browser")).await;
        idle.push((Run { cause: "session_idle", number, what, verdict: Verdict::IdleExpired }, provider, id));
    }
    for (run, provider, id) in idle {
        run.check(&world, provider, &id).await;
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_of_a_wrong_password_until_the_person_gives_up() {
    let world = World::start(Hosts::Answer, "", |_| ()).await;
    let run = |number, what| Run { cause: "wrong_password", number, what, verdict: Verdict::Cancelled };
    let (api, id) = world.sign_in("demo", Some("device_code")).await;
    let shown = api.wait_until(&id, "showing a code", |view| view.sign_in.device_code.is_some()).await.unwrap();
    let form = format!("user_code={}&name=wrong-password", shown.sign_in.device_code.unwrap());
    for _ in 0..2 {
        let page = world.post_to_demo("device", &form).await;
        assert!(page.contains("The password is wrong"), "{page}");
    }
    api.cancel_session(&id).await.unwrap();
    run(1, "on the page for the demo's device code").check(&world, "demo", &id).await;
    if rounds() > 1 {
        let (api, id) = world.sign_in("demo", None).await;
        api.wait_entry(&id, TimelineKind::BrowserOpened).await.unwrap();
        let mut desktop = api.connect_desktop(&id).await.unwrap();
        desktop.request_full_frame().await.unwrap();
        for _ in 0..2 {
            desktop.type_text("wrong-password").await.unwrap();
            desktop.press_key(RETURN).await.unwrap();
        }
        api.cancel_session(&id).await.unwrap();
        run(2, "typed in the machine's browser").check(&world, "demo", &id).await;

        let (api, id) = world.sign_in("demo", Some("link")).await;
        let link = wait_link(&api, &id).await;
        let page = world.get_from_demo(&link).await;
        let (_, request) = page.split_once("name=\"request\" value=\"").unwrap();
        let form = format!("request={}&name=wrong-password", request.split_once('"').unwrap().0);
        let page = world.post_to_demo("authorize", &form).await;
        assert!(page.contains("The password is wrong"), "{page}");
        api.cancel_session(&id).await.unwrap();
        run(3, "on the page of the demo's link").check(&world, "demo", &id).await;
    }
    world.close().await;
}

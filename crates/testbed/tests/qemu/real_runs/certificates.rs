//! Certificates that machines do not accept: a proxy that inspects TLS, and a clock that is wrong.

use super::{by_their_words::paste, *};
use anteroom_wire::diagnosis::Verdict;

/// Three sign-ins that meet the certificates: a tool at its start, a page in the machine's browser, a tool after a code was pasted.
async fn three_sign_ins(world: &World, cause: &'static str, verdict: Verdict) -> Vec<String> {
    let run = |number, what| Run { cause, number, what, verdict };
    let mut sentences = Vec::new();
    let (_, id) = world.sign_in("codex", None).await;
    sentences.push(run(1, "Codex").check(world, "codex", &id).await);
    if rounds() > 1 {
        let (_, id) = world.sign_in("codex", Some("browser")).await;
        sentences.push(run(2, "the page in the machine's browser").check(world, "codex", &id).await);

        let (api, id) = world.sign_in("claude", None).await;
        let link = wait_link(&api, &id).await;
        let (_, state) = link.split_once("state=").unwrap();
        let code = format!("{}#{}", "0".repeat(32), state.split('&').next().unwrap());
        paste(&api, &id, "paste_code", &code).await;
        // The tool says that it failed, and then the gate finds out why.
        api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
        sentences.push(run(3, "Claude Code, the pasted code").check(world, "claude", &id).await);
    }
    sentences
}

#[tokio::test]
async fn qemu_real_run_behind_a_proxy_that_inspects_tls() {
    let world = World::start(Hosts::BehindInspection, "", |_| ()).await;
    for sentence in three_sign_ins(&world, "inspecting_proxy", Verdict::UnknownAuthority).await {
        assert!(sentence.contains("mitmproxy"), "{sentence}");
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_with_a_wrong_clock() {
    let world = World::start(Hosts::ClockBehind, "", |_| ()).await;
    for sentence in three_sign_ins(&world, "wrong_clock", Verdict::CertificateNotValidNow).await {
        assert!(sentence.contains("not valid"), "{sentence}");
    }
    world.close().await;
}

//! The tool in the terminal, its output, and the URL opener.

use crate::fixture::*;
use anteroom_wire::{
    agent::{
        AgentEvent, AgentInfo, Claim, CliState, MachineEvent, Screen, SignInEvent, Stage, StageState, ToolEvent,
        UrlSource,
    },
    provider::SettingsFile,
};

#[tokio::test]
async fn tool_receives_its_environment_and_settings_files() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider("env > seen; cat .demo/settings.json > copied; cat >/dev/null");
    tool.env.insert("DEMO".into(), "a b;$c".into());
    tool.settings_files.push(SettingsFile { path: ".demo/settings.json".into(), content: "{}\n".into() });
    fixture.claim(&mut sender, tool).await;
    eventually("the settings", async || {
        (std::fs::read_to_string(fixture.home("copied")).ok().as_deref() == Some("{}\n")).then_some(())
    })
    .await;
    let seen = std::fs::read_to_string(fixture.home("seen")).unwrap();
    let home = fixture.path("home").display().to_string();
    let url_opener = fixture.path("work").join("browser").display().to_string();
    for line in
        [format!("HOME={home}"), format!("BROWSER={url_opener}"), "DEMO=a b;$c".into(), "TERM=tmux-256color".into()]
    {
        assert!(seen.lines().any(|found| found == line), "{line} not in {seen}");
    }
    assert!(seen.contains("HTTPS_PROXY=http://127.0.0.1:") && seen.contains("no_proxy=localhost"));
    assert!(!seen.contains("CARGO"), "no variable is inherited: {seen}");
}

#[tokio::test]
async fn r02_tool_trusts_the_certificate_authorities_of_the_claim() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let tool = provider(
        "env > seen; cp \"$SSL_CERT_FILE\" bundle; cp \"$NODE_EXTRA_CA_CERTS\" extra; : > done; cat >/dev/null",
    );
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let claim = Claim { extra_ca_pem: pem.to_owned(), ..claim(tool) };
    let (status, _) = post(&mut sender, "/claim", &claim).await;
    assert_eq!(status, 200);
    eventually("the copies", async || fixture.home("done").exists().then_some(())).await;
    assert_eq!(std::fs::read_to_string(fixture.home("extra")).unwrap(), pem);
    let bundle = std::fs::read_to_string(fixture.home("bundle")).unwrap();
    assert!(bundle.ends_with(&format!("\n{pem}")) || bundle == pem, "after those of the system");
    let seen = std::fs::read_to_string(fixture.home("seen")).unwrap();
    for name in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
        assert!(seen.contains(&format!("{name}=")), "{name} not in {seen}");
    }
}

#[tokio::test]
async fn url_opener_forwards_the_complete_url() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let url = format!("https://a.example/oauth?state=1&x={}", "y".repeat(3000));
    fixture
        .claim(
            &mut sender,
            provider(&format!(
                "\"$BROWSER\" '{url}'; echo \"exit $?\"; \"$BROWSER\" file:///etc/passwd; echo \"exit $?\"; cat"
            )),
        )
        .await;
    let found = fixture.wait_event("the address", |event| match event {
        AgentEvent::SignIn(SignInEvent::Url(found)) => Some(found.clone()),
        _ => None,
    });
    let found = found.await;
    assert_eq!((found.url.as_str(), found.source), (url.as_str(), UrlSource::BrowserCommand));
    assert_eq!(fixture.sign_in(&mut sender).await.url.unwrap().url, url);
    eventually("the URL opener exits", async || {
        let screen: Screen = get(&mut sender, "/screen").await;
        let shows = |text: &str| screen.lines.iter().any(|line| line.contains(text));
        (shows("exit 0") && shows("exit 1")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn url_and_code_are_read_from_the_screen_once_and_complete() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let url = format!("https://a.example/device?{}", "abcdefghij".repeat(30));
    let mut tool = provider(&format!("printf 'Visit %s and enter\\n\\n  code: AB12-CD34\\n' '{url}'; cat"));
    tool.sign_in.url = Some(r"Visit (https://\S+) and".into());
    tool.sign_in.code = Some(r"code: ([A-Z0-9]{4}-[A-Z0-9]{4})".into());
    fixture.claim(&mut sender, tool).await;
    let code = fixture.wait_event("the code", |event| match event {
        AgentEvent::SignIn(SignInEvent::DeviceCode { code }) => Some(code.clone()),
        _ => None,
    });
    assert_eq!(code.await, "AB12-CD34");
    let state = fixture.sign_in(&mut sender).await;
    assert_eq!(state.url.map(|found| (found.url, found.source)), Some((url, UrlSource::Screen)));
    assert_eq!(state.device_code.as_deref(), Some("AB12-CD34"));
    let events = fixture.controller.lock().unwrap().events.clone();
    assert_eq!(
        events.iter().filter(|event| matches!(event.event, AgentEvent::SignIn(SignInEvent::DeviceCode { .. }))).count(),
        1
    );
}

#[tokio::test]
async fn tool_exit_is_reported_with_its_last_lines_and_enter_restarts_it() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let script = "echo run >> runs; echo 'go to https://a.example/x?code=s3cret sk-ant-0123456789abcdefghij'; exit 7";
    fixture.claim(&mut sender, provider(script)).await;
    let last_lines = fixture.wait_event("the exit", |event| match event {
        AgentEvent::Tool(ToolEvent::Exited { code: 7, last_lines }) => Some(last_lines.join("\n")),
        _ => None,
    });
    let last_lines = last_lines.await;
    assert!(last_lines.contains("go to https://a.example/x?…") && last_lines.contains("•••"), "{last_lines}");
    assert!(!last_lines.contains("s3cret") && !last_lines.contains("abcdefghij"), "{last_lines}");
    assert_eq!(fixture.sign_in(&mut sender).await.cli, CliState::Exited { code: 7 });
    eventually("restart prompt", async || {
        let screen: Screen = get(&mut sender, "/screen").await;
        screen.lines.iter().any(|line| line.contains("ended with 7. Press Enter")).then_some(())
    })
    .await;
    let enter = serde_json::json!({ "text": "", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    eventually("the second run", async || {
        let runs = std::fs::read_to_string(fixture.home("runs")).unwrap_or_default();
        (runs == "run\nrun\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn missing_tool_is_reported_differently_from_an_exited_one() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider("");
    tool.argv = vec!["no-such-tool".into()];
    fixture.claim(&mut sender, tool).await;
    let why = fixture.wait_event("the failed start", |event| match event {
        AgentEvent::Machine(MachineEvent::ChildExited { name, code: None, last_lines, .. }) if name == "demo" => {
            Some(last_lines.join("\n"))
        }
        _ => None,
    });
    assert!(why.await.contains("no-such-tool could not be started"));
    let hello: AgentInfo = get(&mut sender, "/hello").await;
    let cli = hello.stages.iter().find(|report| report.stage == Stage::Cli).unwrap();
    assert_ne!(cli.state, StageState::Ready);
    assert!(cli.last_error.as_deref().unwrap().contains("no-such-tool"));
}

#[tokio::test]
async fn lost_terminal_is_restarted_with_the_tool() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("echo run >> runs; cat")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let server = fixture
        .descendants()
        .into_iter()
        .find(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0-D\0")));
    let server = rustix::process::Pid::from_raw(i32::try_from(server.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(server, rustix::process::Signal::KILL).unwrap();
    fixture
        .wait_event("tmux ended", |event| {
            matches!(event, AgentEvent::Machine(MachineEvent::ChildExited { name, code: Some(137), .. }) if name == "tmux")
                .then_some(())
        })
        .await;
    eventually("the second run", async || {
        (std::fs::read_to_string(fixture.home("runs")).unwrap_or_default() == "run\nrun\n").then_some(())
    })
    .await;
    eventually("the tool runs", async || (fixture.sign_in(&mut sender).await.cli == CliState::Running).then_some(()))
        .await;
}

#[tokio::test]
async fn killed_pane_is_restarted_with_the_tool() {
    let fixture = AgentFixture::start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("echo run >> runs; cat")).await;
    fixture
        .wait_event("the tool started", |event| matches!(event, AgentEvent::Tool(ToolEvent::Started)).then_some(()))
        .await;
    let pane = fixture.descendants().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split('\0').nth(1) == Some("pane"))
    });
    let pane = rustix::process::Pid::from_raw(i32::try_from(pane.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pane, rustix::process::Signal::KILL).unwrap();
    fixture
        .wait_event("tool exit", |event| {
            matches!(event, AgentEvent::Tool(ToolEvent::Exited { code: 129, .. })).then_some(())
        })
        .await;
    eventually("the second run", async || {
        (std::fs::read_to_string(fixture.home("runs")).unwrap_or_default() == "run\nrun\n").then_some(())
    })
    .await;
}

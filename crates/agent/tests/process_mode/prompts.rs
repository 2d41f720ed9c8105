//! Sign-in URLs and prompts on the tool's screen, the keys that rules press, and the handling of pastes.

use crate::fixture::*;
use anteroom_wire::{
    Problem, Secret,
    agent::{
        AgentEvent, ChangeMethod, CliState, OpenPrompt, Paste, PasteResult, Screen, SignInEvent, SignInOutcome,
        TERMINAL_AUTHORITY, TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, ToolEvent, UrlSource,
    },
    provider::{Key, KeyEntry, LinkFrom, MethodName, PromptQuestion, PromptRule, Provider},
};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

/// A fixture whose agent uses the same tmux as this test.
pub(crate) async fn start() -> AgentFixture {
    AgentFixture::start_with(|_| serde_json::json!({ "exec_search_path": std::env::var("PATH").unwrap() })).await
}

fn press_rule(id: &str, matches: &str, press: &[Key]) -> PromptRule {
    PromptRule { id: id.into(), matches: matches.into(), press: press.to_vec(), ask: None }
}

fn ask_rule(id: &str, matches: &str, pattern: Option<&str>, rejected: Option<&str>) -> PromptRule {
    let (pattern, rejected) = (pattern.map(Into::into), rejected.map(Into::into));
    let ask = PromptQuestion {
        label: "The code".into(),
        secret: true,
        pattern,
        expected_format: Some("Eight digits".into()),
        rejected,
    };
    PromptRule { id: id.into(), matches: matches.into(), press: Vec::new(), ask: Some(ask) }
}

async fn paste(sender: &mut Sender, text: &str) -> (StatusCode, Bytes) {
    post(sender, "/paste", &Paste { text: Secret::new(text.into()) }).await
}

pub(crate) async fn paste_accepted(sender: &mut Sender, text: &str) -> PasteResult {
    let (status, body) = paste(sender, text).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// The problem's code and detail.
pub(crate) async fn paste_rejected(sender: &mut Sender, text: &str) -> (String, String) {
    let (status, body) = paste(sender, text).await;
    assert_ne!(status, StatusCode::OK);
    let body = problem(&body);
    (body.code, body.detail.unwrap_or_default())
}

/// Waits until the terminal shows `text`.
async fn wait_screen(sender: &mut Sender, text: &str) {
    eventually(text, async || {
        let request = Request::get("http://agent/screen").body(Full::default()).unwrap();
        let (status, body) = collect(send(sender, request).await).await;
        let screen: Option<Screen> = (status == StatusCode::OK).then(|| serde_json::from_slice(&body).unwrap());
        screen?.lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

pub(crate) async fn wait_prompt(
    fixture: &AgentFixture,
    sender: &mut Sender,
    wanted: impl Fn(Option<&OpenPrompt>) -> bool,
) {
    eventually("prompt", async || wanted(fixture.sign_in(sender).await.prompt.as_ref()).then_some(())).await;
}

fn count_events(fixture: &AgentFixture, which: impl Fn(&AgentEvent) -> bool) -> usize {
    fixture.controller.lock().unwrap().events.iter().filter(|event| which(&event.event)).count()
}

/// Opens a view of the terminal; the terminal takes its width.
async fn open_terminal(sender: &mut Sender, cols: &str) -> TokioIo<Upgraded> {
    let headers = [(TERMINAL_ID_HEADER, "v"), (TERMINAL_COLS_HEADER, cols), (TERMINAL_ROWS_HEADER, "25")];
    let response = eventually("terminal", async || {
        let response = http_connect(sender, TERMINAL_AUTHORITY, &headers).await;
        (response.status() == StatusCode::OK).then_some(response)
    })
    .await;
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

pub(crate) async fn wait_url(fixture: &AgentFixture, wanted: &str) -> UrlSource {
    fixture
        .wait_event(wanted, |event| match event {
            AgentEvent::SignIn(SignInEvent::Url(found)) if found.url == wanted => Some(found.source),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn url_wrapped_at_80_columns_is_found_complete() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let url = format!("https://a.example/authorize?x={}&end=1", "abcdefghij".repeat(21));
    let broken: Vec<String> =
        url.as_bytes().chunks(78).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let broken = format!("  {}", broken.join("\n  "));
    // Once the terminal is 80 columns wide: first wrapped by the terminal, then broken and indented by the program.
    let script = format!(
        "while [ \"$(stty size)\" != '25 80' ]; do sleep 0.05; done
        echo 'Visit {url}'; echo 'then wait'; read next; clear; printf '%s\\n' '{}' '' 'Waiting'; cat",
        broken.replace("end=1", "end=2")
    );
    let mut tool = provider(&script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    let _view = open_terminal(&mut sender, "80").await;
    fixture.claim(&mut sender, tool).await;
    assert_eq!(wait_url(&fixture, &url).await, UrlSource::Screen);
    let enter = serde_json::json!({ "text": "", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    wait_url(&fixture, &url.replace("end=1", "end=2")).await;
    assert_eq!(
        count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::Url(_)))),
        2,
        "no partial URL"
    );
}

#[tokio::test]
async fn r33_url_taller_than_the_screen_is_found_complete() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let url = format!("https://a.example/authorize?x={}&end=1", "abcdefghij".repeat(120));
    let rows: Vec<String> = url.as_bytes().chunks(38).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    assert!(rows.len() > 25);
    let mut tool = provider(&format!(
        "while [ \"$(stty size)\" != '25 38' ]; do sleep 0.05; done
        printf '%s\\n' 'Visit:' '' '{}' '' 'Paste the code here'; cat",
        rows.join("\n")
    ));
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    let _view = open_terminal(&mut sender, "38").await;
    fixture.claim(&mut sender, tool).await;
    assert_eq!(wait_url(&fixture, &url).await, UrlSource::Screen);
    assert_eq!(count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::Url(_)))), 1, "no part");
}

#[tokio::test]
async fn url_printed_in_two_writes_is_never_reported_incomplete() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let script = "printf 'Visit https://a.example/authorize?state=one'; sleep 0.6; printf '&half=two'; sleep 0.6; echo '&end=1'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    fixture.claim(&mut sender, tool).await;
    wait_url(&fixture, "https://a.example/authorize?state=one&half=two&end=1").await;
    assert_eq!(count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::Url(_)))), 1);
}

#[tokio::test]
async fn url_at_the_end_of_the_screen_is_reported_when_it_stops_growing() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider("printf 'Visit https://a.example/authorize?state=one'; cat");
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    fixture.claim(&mut sender, tool).await;
    assert_eq!(wait_url(&fixture, "https://a.example/authorize?state=one").await, UrlSource::Screen);
}

#[tokio::test]
async fn url_for_the_user_and_url_for_the_machine_can_differ() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let script = "\"$BROWSER\" 'https://a.example/authorize?redirect_uri=http://localhost:1/cb'; \
        echo 'or visit https://a.example/authorize?code=true instead'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    tool.sign_in.link_from = LinkFrom::Screen;
    fixture.claim(&mut sender, tool).await;
    eventually("both", async || {
        let now = fixture.sign_in(&mut sender).await;
        let url = now.url.map(|found| found.url);
        let both = url.as_deref() == Some("https://a.example/authorize?code=true")
            && now.browser_url.as_deref() == Some("https://a.example/authorize?redirect_uri=http://localhost:1/cb");
        both.then_some(())
    })
    .await;
}

/// tmux keeps hyperlinks since 3.4; an older one keeps only the text.
#[tokio::test]
async fn hyperlink_target_is_reported_where_tmux_keeps_it() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let script = r"printf 'See \033]8;;https://a.example/authorize?long=1\033\\https://a.example/authorize?s\033]8;;\033\\ now\n'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    fixture.claim(&mut sender, tool).await;
    let reported = fixture.wait_event("URL", |event| match event {
        AgentEvent::SignIn(SignInEvent::Url(found)) => Some((found.url.clone(), found.source)),
        _ => None,
    });
    let expected = if tmux_keeps_hyperlinks() {
        ("https://a.example/authorize?long=1".to_owned(), UrlSource::Hyperlink)
    } else {
        ("https://a.example/authorize?s".to_owned(), UrlSource::Screen)
    };
    assert_eq!(reported.await, expected);
}

#[expect(clippy::disallowed_methods, reason = "the expected URL depends on the version of tmux")]
fn tmux_keeps_hyperlinks() -> bool {
    let version = std::process::Command::new("tmux").arg("-V").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let number = version.trim().trim_start_matches("tmux ").trim_end_matches(char::is_alphabetic);
    number.parse::<f64>().is_ok_and(|number| number >= 3.4)
}

#[tokio::test]
async fn cursor_position_query_is_answered() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    // The response is ESC [ row ; column R; no client is attached.
    let script = "stty raw -echo; printf '\\033[6n'; answer=$(dd bs=1 count=6 2>/dev/null | tr -d '\\033'); \
        stty sane; printf '\\r\\nanswer <%s>\\r\\n' \"$answer\"; cat";
    fixture.claim(&mut sender, provider(script)).await;
    wait_screen(&mut sender, "answer <[1;1R>").await;
}

#[tokio::test]
async fn prompt_without_a_rule_is_left_to_the_user() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let script = "printf 'Do you like green? [y/n]\\n(https://a.example/green shows it)\\n> '; read answer; \
        echo \"answered <$answer>\"; cat";
    let mut tool = provider(script);
    tool.prompts = vec![
        press_rule("theme", "Choose a theme", &[Key::Enter]),
        press_rule("go_on", "Continue\\?", &[Key::Y]),
        press_rule("answered", "answered <y>", &[Key::Enter]),
    ];
    tool.sign_in.url = Some(r"https://\S+".into());
    fixture.claim(&mut sender, tool).await;
    // The agent has read the screen with the question: the URL follows it.
    wait_url(&fixture, "https://a.example/green").await;
    let green = serde_json::json!({ "text": "y", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &green).await.0, 204);
    wait_screen(&mut sender, "answered <y>").await;
    // An event about the question would be older than the one about the next screen.
    fixture
        .wait_event("keys for the next screen", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::KeysPressed { id, .. }) if id == "answered").then_some(())
        })
        .await;
    assert_eq!(
        count_events(&fixture, |event| matches!(
            event,
            AgentEvent::SignIn(SignInEvent::KeysPressed { id, .. } | SignInEvent::PromptOpened { id, .. }) if id != "answered"
        )),
        0
    );
}

#[tokio::test]
async fn keys_are_pressed_once_per_appearance_of_a_prompt() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    // A menu that stays for a while after it was answered, disappears, and appears once more.
    let script = "stty -echo; for turn in 1 2; do clear; echo 'Pick one'; read key; echo \"$turn <$key>\" >> picked; \
        sleep 1; clear; echo working; sleep 1; done; clear; echo finished; cat";
    let mut tool = provider(script);
    tool.prompts = vec![press_rule("pick", "(?m)^Pick one$", &[Key::Y, Key::Enter])];
    fixture.claim(&mut sender, tool).await;
    wait_screen(&mut sender, "finished").await;
    assert_eq!(std::fs::read_to_string(fixture.home("picked")).unwrap(), "1 <y>\n2 <y>\n");
    eventually("both key presses", async || {
        let pressed = count_events(
            &fixture,
            |event| matches!(event, AgentEvent::SignIn(SignInEvent::KeysPressed { id, .. }) if id == "pick"),
        );
        let opened = count_events(
            &fixture,
            |event| matches!(event, AgentEvent::SignIn(SignInEvent::PromptOpened { id, ask: None }) if id == "pick"),
        );
        assert!(pressed <= 2 && opened <= 2);
        ((pressed, opened) == (2, 2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_keys_are_pressed_after_the_tool_exited() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let script = "echo run >> runs; [ $(wc -l < runs) = 1 ] && exit 3; echo 'https://a.example/second run'; cat";
    let mut tool = provider(script);
    // A rule must not answer the prompt to restart the tool.
    tool.prompts = vec![press_rule("enter", "(?i)press enter", &[Key::Enter])];
    tool.sign_in.done = Some("Press Enter to start it again".into());
    tool.sign_in.url = Some(r"https://\S+".into());
    fixture.claim(&mut sender, tool).await;
    // The agent has read the screen with this prompt.
    fixture
        .wait_event("the prompt to restart", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::Outcome(SignInOutcome::Done))).then_some(())
        })
        .await;
    assert_eq!(std::fs::read_to_string(fixture.home("runs")).unwrap(), "run\n");
    let enter = serde_json::json!({ "text": "", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    // Events about the first run would be older than the one about the second.
    wait_url(&fixture, "https://a.example/second").await;
    assert_eq!(
        count_events(&fixture, |event| matches!(
            event,
            AgentEvent::SignIn(SignInEvent::KeysPressed { .. } | SignInEvent::PromptOpened { .. })
        )),
        0
    );
    assert_eq!(std::fs::read_to_string(fixture.home("runs")).unwrap(), "run\nrun\n");
}

const ASK_SCRIPT: &str = "while :; do printf 'Your code: '; read code; echo run:$code >> codes; echo working; sleep 0.6; \
    case $code in 12345678) echo 'You are signed in.'; break;; *) echo \"Not taken: $code is unknown\";; esac; done; cat";

pub(crate) fn provider_asking_for_a_code() -> Provider {
    let mut tool = provider(ASK_SCRIPT);
    tool.prompts = vec![ask_rule("code", r"Your code: *\z", Some("[0-9]{8}"), Some(r"(?m)^Not taken: (.*)$"))];
    tool.sign_in.done = Some("You are signed in".into());
    tool
}

#[tokio::test]
async fn prompt_is_reported_rejected_and_answered_again() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider_asking_for_a_code()).await;
    wait_prompt(&fixture, &mut sender, |open| open.is_some_and(|open| open.id == "code" && open.secret)).await;
    // Text in the wrong format never reaches the tool.
    assert_eq!(paste_rejected(&mut sender, "1234-5678").await, ("wrong_answer".into(), "Eight digits".into()));
    assert_eq!(paste_accepted(&mut sender, "  87654321\n").await, PasteResult::Prompt { id: "code".into() });
    wait_prompt(&fixture, &mut sender, |open| {
        open.and_then(|open| open.rejection.as_deref()) == Some("87654321 is unknown")
    })
    .await;
    assert_eq!(paste_accepted(&mut sender, "12345678").await, PasteResult::Prompt { id: "code".into() });
    fixture
        .wait_event("outcome", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::Outcome(SignInOutcome::Done))).then_some(())
        })
        .await;
    wait_prompt(&fixture, &mut sender, |open| open.is_none()).await;
    assert_eq!(fixture.sign_in(&mut sender).await.outcome, Some(SignInOutcome::Done));
    assert_eq!(std::fs::read_to_string(fixture.home("codes")).unwrap(), "run:87654321\nrun:12345678\n");
    let (code, _) = paste_rejected(&mut sender, "12345678").await;
    assert_eq!(code, Problem::NoPrompt.code(), "no prompt is open");
    eventually("all events", async || {
        let rejections =
            count_events(&fixture, |event| matches!(event, AgentEvent::SignIn(SignInEvent::PasteRejected { .. })));
        let pasted = count_events(&fixture, |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::PasteAccepted(PasteResult::Prompt { .. })))
        });
        ((rejections, pasted) == (2, 2)).then_some(())
    })
    .await;
    let reasons = count_events(
        &fixture,
        |event| matches!(event, AgentEvent::SignIn(SignInEvent::PromptOpened { ask: Some(ask), .. }) if ask.rejection.is_some()),
    );
    assert_eq!(reasons, 1);
    let log = std::fs::read_to_string(fixture.path("agent.log")).unwrap();
    assert!(!log.contains("12345678") && !log.contains("87654321"), "{log}");
}

#[tokio::test]
async fn concurrent_pastes_are_typed_once() {
    let fixture = start().await;
    let mut one = fixture.connect().await;
    fixture.claim(&mut one, provider_asking_for_a_code()).await;
    wait_prompt(&fixture, &mut one, |open| open.is_some()).await;
    let mut second = one.clone();
    let (first, second) = tokio::join!(paste(&mut one, "12345678"), paste(&mut second, "12345678"));
    let statuses = [first.0, second.0];
    assert!(statuses.contains(&StatusCode::OK) && statuses.contains(&StatusCode::CONFLICT), "{statuses:?}");
    fixture
        .wait_event("outcome", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::Outcome(SignInOutcome::Done))).then_some(())
        })
        .await;
    assert_eq!(std::fs::read_to_string(fixture.home("codes")).unwrap(), "run:12345678\n");
}

#[tokio::test]
async fn changing_lanes_keeps_the_same_tool_running() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider_asking_for_a_code()).await;
    wait_prompt(&fixture, &mut sender, |open| open.is_some()).await;
    // First pasted in the page, then typed in the terminal.
    paste_accepted(&mut sender, "87654321").await;
    wait_prompt(&fixture, &mut sender, |open| open.is_some_and(|open| open.rejection.is_some())).await;
    let typed = serde_json::json!({ "text": "12345678", "press_enter": true });
    assert_eq!(post(&mut sender, "/input", &typed).await.0, 204);
    fixture
        .wait_event("outcome", |event| {
            matches!(event, AgentEvent::SignIn(SignInEvent::Outcome(SignInOutcome::Done))).then_some(())
        })
        .await;
    assert_eq!(count_events(&fixture, |event| matches!(event, AgentEvent::Tool(ToolEvent::Started))), 1);
    assert_eq!(count_events(&fixture, |event| matches!(event, AgentEvent::Tool(ToolEvent::Exited { .. }))), 0);
}

#[tokio::test]
async fn paste_without_a_prompt_rule_is_typed_into_the_terminal() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    fixture.claim(&mut sender, provider("read code; echo \"got <$code>\"; exit 0")).await;
    eventually("tool running", async || (fixture.sign_in(&mut sender).await.cli == CliState::Running).then_some(()))
        .await;
    for invalid in ["", "  ", "a\u{1b}[2Jb", &"x".repeat(16 * 1024 + 1)] {
        assert_eq!(paste_rejected(&mut sender, invalid).await.0, Problem::Malformed.code());
    }
    assert_eq!(paste_accepted(&mut sender, "it's $HOME; \"x\"").await, PasteResult::Terminal);
    wait_screen(&mut sender, "got <it's $HOME; \"x\">").await;
    wait_screen(&mut sender, "Press Enter to start it again").await;
    assert_eq!(paste_rejected(&mut sender, "once more").await.0, Problem::NoPrompt.code());
}

#[tokio::test]
async fn method_change_to_a_key_and_back_restarts_the_tool() {
    let fixture = start().await;
    let mut sender = fixture.connect().await;
    let mut tool = provider_asking_for_a_code();
    tool.sign_in.url = Some(r"https://a\.example/\S+".into());
    tool.argv[2] = format!("echo 'Visit https://a.example/login now'; {ASK_SCRIPT}");
    fixture.claim(&mut sender, tool.clone()).await;
    wait_url(&fixture, "https://a.example/login").await;
    wait_prompt(&fixture, &mut sender, |open| open.is_some_and(|open| open.id == "code")).await;
    let mut by_key = provider("read key; echo \"key of ${#key}\"; cat");
    by_key.method = MethodName::try_from("key".to_owned()).unwrap();
    let (pattern, expected_format) = (Some("sk-[a-z]+".into()), Some("It begins with sk-".into()));
    by_key.key_entry = Some(KeyEntry { label: "The key".into(), pattern, expected_format });
    let (status, body) = post(&mut sender, "/method", &ChangeMethod { provider: by_key, restart: false }).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&body));
    wait_prompt(&fixture, &mut sender, |open| open.is_some_and(|open| open.id == "key_entry")).await;
    let now = fixture.sign_in(&mut sender).await;
    assert_eq!((now.url, now.device_code), (None, None), "those of the previous method are cleared");
    assert_eq!(paste_rejected(&mut sender, "12345678").await, ("wrong_answer".into(), "It begins with sk-".into()));
    assert_eq!(paste_accepted(&mut sender, "sk-abcdef").await, PasteResult::Stdin);
    wait_screen(&mut sender, "key of 9").await;
    wait_prompt(&fixture, &mut sender, |open| open.is_none()).await;
    // And back: the same prompt opens again.
    assert_eq!(
        post(&mut sender, "/method", &ChangeMethod { provider: tool, restart: false }).await.0,
        StatusCode::NO_CONTENT
    );
    wait_prompt(&fixture, &mut sender, |open| open.is_some_and(|open| open.id == "code")).await;
    assert_eq!(paste_accepted(&mut sender, "12345678").await, PasteResult::Prompt { id: "code".into() });
    eventually("URL reported again", async || {
        let reported = count_events(
            &fixture,
            |event| matches!(event, AgentEvent::SignIn(SignInEvent::Url(found)) if found.url.ends_with("/login")),
        );
        (reported == 2).then_some(())
    })
    .await;
}

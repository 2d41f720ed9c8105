//! What the agent finds on a tool's screen, what it answers there by rule, and what it does with what the person brings.

use crate::fixture::*;
use anteroom_wire::{
    Problem, Secret,
    agent::{
        CliState, Event, OpenPrompt, Outcome, Paste, Pasted, Screen, SwitchMethod, TERMINAL_AUTHORITY,
        TERMINAL_COLS_HEADER, TERMINAL_ID_HEADER, TERMINAL_ROWS_HEADER, UrlSource,
    },
    provider::{Ask, Key, KeyEntry, LinkFrom, MethodName, PromptRule, Provider},
};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A world whose agent finds the same tmux as this test.
async fn start() -> World {
    World::start_with(|_| serde_json::json!({ "path": std::env::var("PATH").unwrap() })).await
}

fn pressing(id: &str, matches: &str, press: &[Key]) -> PromptRule {
    PromptRule { id: id.into(), matches: matches.into(), press: press.to_vec(), ask: None }
}

fn asking(id: &str, matches: &str, shape: Option<&str>, refused: Option<&str>) -> PromptRule {
    let (shape, refused) = (shape.map(Into::into), refused.map(Into::into));
    let ask = Ask { label: "The code".into(), secret: true, shape, hint: Some("Eight digits".into()), refused };
    PromptRule { id: id.into(), matches: matches.into(), press: Vec::new(), ask: Some(ask) }
}

async fn paste(sender: &mut Sender, text: &str) -> (StatusCode, Bytes) {
    post(sender, "/paste", &Paste { text: Secret::new(text.into()) }).await
}

async fn taken(sender: &mut Sender, text: &str) -> Pasted {
    let (status, body) = paste(sender, text).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

/// The problem's code and detail.
async fn refused(sender: &mut Sender, text: &str) -> (String, String) {
    let (status, body) = paste(sender, text).await;
    assert_ne!(status, StatusCode::OK);
    let body = problem(&body);
    (body.code, body.detail.unwrap_or_default())
}

/// Waits until the terminal is up and shows `text`.
async fn shows(sender: &mut Sender, text: &str) {
    until(text, async || {
        let request = Request::get("http://agent/screen").body(Full::default()).unwrap();
        let (status, body) = whole(send(sender, request).await).await;
        let screen: Option<Screen> = (status == StatusCode::OK).then(|| serde_json::from_slice(&body).unwrap());
        screen?.lines.iter().any(|line| line.contains(text)).then_some(())
    })
    .await;
}

async fn prompt(world: &World, sender: &mut Sender, wanted: impl Fn(Option<&OpenPrompt>) -> bool) {
    until("the question", async || wanted(world.sign_in(sender).await.prompt.as_ref()).then_some(())).await;
}

fn count(world: &World, which: impl Fn(&Event) -> bool) -> usize {
    world.heard.lock().unwrap().events.iter().filter(|event| which(&event.event)).count()
}

/// The terminal becomes as wide as this view of it.
async fn view(sender: &mut Sender, cols: &str) -> TokioIo<Upgraded> {
    let headers = [(TERMINAL_ID_HEADER, "v"), (TERMINAL_COLS_HEADER, cols), (TERMINAL_ROWS_HEADER, "25")];
    let response = until("the terminal", async || {
        let response = connect(sender, TERMINAL_AUTHORITY, &headers).await;
        (response.status() == StatusCode::OK).then_some(response)
    })
    .await;
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

async fn found(world: &World, wanted: &str) -> UrlSource {
    world
        .event(wanted, |event| match event {
            Event::SignInUrl(found) if found.url == wanted => Some(found.source),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn url_wrapped_at_80_columns_is_found_complete() {
    let world = start().await;
    let mut sender = world.connect().await;
    let url = format!("https://a.example/authorize?x={}&end=1", "abcdefghij".repeat(21));
    let broken: Vec<String> =
        url.as_bytes().chunks(78).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let broken = format!("  {}", broken.join("\n  "));
    // Once the terminal is 80 columns wide: first as the terminal wraps it, then as the program breaks and indents it.
    let script = format!(
        "while [ \"$(stty size)\" != '25 80' ]; do sleep 0.05; done
        echo 'Visit {url}'; echo 'then wait'; read next; clear; printf '%s\\n' '{}' '' 'Waiting'; cat",
        broken.replace("end=1", "end=2")
    );
    let mut tool = provider(&script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    let _view = view(&mut sender, "80").await;
    world.claim(&mut sender, tool).await;
    assert_eq!(found(&world, &url).await, UrlSource::Screen);
    let enter = serde_json::json!({ "text": "", "enter": true });
    assert_eq!(post(&mut sender, "/input", &enter).await.0, 204);
    found(&world, &url.replace("end=1", "end=2")).await;
    assert_eq!(count(&world, |event| matches!(event, Event::SignInUrl(_))), 2, "no part of either");
}

#[tokio::test]
async fn url_printed_in_two_writes_is_never_reported_incomplete() {
    let world = start().await;
    let mut sender = world.connect().await;
    let script = "printf 'Visit https://a.example/authorize?state=one'; sleep 0.6; printf '&half=two'; sleep 0.6; echo '&end=1'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    world.claim(&mut sender, tool).await;
    found(&world, "https://a.example/authorize?state=one&half=two&end=1").await;
    assert_eq!(count(&world, |event| matches!(event, Event::SignInUrl(_))), 1);
}

#[tokio::test]
async fn url_at_the_end_of_the_screen_is_reported_when_it_stops_growing() {
    let world = start().await;
    let mut sender = world.connect().await;
    let mut tool = provider("printf 'Visit https://a.example/authorize?state=one'; cat");
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    world.claim(&mut sender, tool).await;
    assert_eq!(found(&world, "https://a.example/authorize?state=one").await, UrlSource::Screen);
}

#[tokio::test]
async fn link_for_the_user_and_link_for_the_machine_can_differ() {
    let world = start().await;
    let mut sender = world.connect().await;
    let script = "\"$BROWSER\" 'https://a.example/authorize?redirect_uri=http://localhost:1/cb'; \
        echo 'or visit https://a.example/authorize?code=true instead'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    tool.sign_in.link_from = LinkFrom::Screen;
    world.claim(&mut sender, tool).await;
    until("both", async || {
        let now = world.sign_in(&mut sender).await;
        let url = now.url.map(|found| found.url);
        let both = url.as_deref() == Some("https://a.example/authorize?code=true")
            && now.browser_url.as_deref() == Some("https://a.example/authorize?redirect_uri=http://localhost:1/cb");
        both.then_some(())
    })
    .await;
}

/// tmux keeps hyperlinks from 3.4 on; an older one leaves the text.
#[tokio::test]
async fn hyperlink_target_is_reported_where_tmux_keeps_it() {
    let world = start().await;
    let mut sender = world.connect().await;
    let script = r"printf 'See \033]8;;https://a.example/authorize?long=1\033\\https://a.example/authorize?s\033]8;;\033\\ now\n'; cat";
    let mut tool = provider(script);
    tool.sign_in.url = Some(r"https://a\.example/authorize\?\S+".into());
    world.claim(&mut sender, tool).await;
    let told = world.event("an address", |event| match event {
        Event::SignInUrl(found) => Some((found.url.clone(), found.source)),
        _ => None,
    });
    let expected = if tmux_keeps_hyperlinks() {
        ("https://a.example/authorize?long=1".to_owned(), UrlSource::Hyperlink)
    } else {
        ("https://a.example/authorize?s".to_owned(), UrlSource::Screen)
    };
    assert_eq!(told.await, expected);
}

#[expect(clippy::disallowed_methods, reason = "which tmux the agent finds decides what can be expected")]
fn tmux_keeps_hyperlinks() -> bool {
    let version = std::process::Command::new("tmux").arg("-V").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let number = version.trim().trim_start_matches("tmux ").trim_end_matches(char::is_alphabetic);
    number.parse::<f64>().is_ok_and(|number| number >= 3.4)
}

#[tokio::test]
async fn cursor_position_query_is_answered() {
    let world = start().await;
    let mut sender = world.connect().await;
    // The answer is ESC [ row ; column R; nobody is attached.
    let script = "stty raw -echo; printf '\\033[6n'; answer=$(dd bs=1 count=6 2>/dev/null | tr -d '\\033'); \
        stty sane; printf '\\r\\nanswer <%s>\\r\\n' \"$answer\"; cat";
    world.claim(&mut sender, provider(script)).await;
    shows(&mut sender, "answer <[1;1R>").await;
}

#[tokio::test]
async fn prompt_without_a_rule_is_left_to_the_user() {
    let world = start().await;
    let mut sender = world.connect().await;
    let mut tool = provider("printf 'Do you like green? [y/n] '; read answer; echo \"answered <$answer>\"; cat");
    tool.prompts =
        vec![pressing("theme", "Choose a theme", &[Key::Enter]), pressing("go_on", "Continue\\?", &[Key::Y])];
    tool.sign_in.url = Some(r"https://\S+".into());
    world.claim(&mut sender, tool).await;
    shows(&mut sender, "Do you like green?").await;
    // Longer than it takes to look.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let green = serde_json::json!({ "text": "y", "enter": true });
    assert_eq!(post(&mut sender, "/input", &green).await.0, 204);
    shows(&mut sender, "answered <y>").await;
    assert_eq!(count(&world, |event| matches!(event, Event::KeysPressed { .. } | Event::PromptOpened { .. })), 0);
}

#[tokio::test]
async fn keys_are_pressed_once_per_appearance_of_a_prompt() {
    let world = start().await;
    let mut sender = world.connect().await;
    // A menu that stays for a while after it was answered, goes, and comes back once.
    let script = "stty -echo; for turn in 1 2; do clear; echo 'Pick one'; read key; echo \"$turn <$key>\" >> picked; \
        sleep 1; clear; echo working; sleep 1; done; clear; echo finished; cat";
    let mut tool = provider(script);
    tool.prompts = vec![pressing("pick", "(?m)^Pick one$", &[Key::Y, Key::Enter])];
    world.claim(&mut sender, tool).await;
    shows(&mut sender, "finished").await;
    assert_eq!(std::fs::read_to_string(world.home("picked")).unwrap(), "1 <y>\n2 <y>\n");
    until("both answers", async || {
        let pressed = count(&world, |event| matches!(event, Event::KeysPressed { id, .. } if id == "pick"));
        let opened = count(&world, |event| matches!(event, Event::PromptOpened { id, ask: None } if id == "pick"));
        assert!(pressed <= 2 && opened <= 2);
        ((pressed, opened) == (2, 2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_keys_are_pressed_after_the_tool_exited() {
    let world = start().await;
    let mut sender = world.connect().await;
    let mut tool = provider("echo run >> runs; exit 3");
    // The offer to start the tool again must not be taken by a rule.
    tool.prompts = vec![pressing("enter", "(?i)press enter", &[Key::Enter])];
    world.claim(&mut sender, tool).await;
    shows(&mut sender, "Press Enter to start it again").await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(std::fs::read_to_string(world.home("runs")).unwrap(), "run\n");
}

const ASKS: &str = "while :; do printf 'Your code: '; read code; echo run:$code >> codes; echo working; sleep 0.6; \
    case $code in 12345678) echo 'You are signed in.'; break;; *) echo \"Not taken: $code is unknown\";; esac; done; cat";

fn asks() -> Provider {
    let mut tool = provider(ASKS);
    tool.prompts = vec![asking("code", r"Your code: *\z", Some("[0-9]{8}"), Some(r"(?m)^Not taken: (.*)$"))];
    tool.sign_in.done = Some("You are signed in".into());
    tool
}

#[tokio::test]
async fn prompt_is_reported_rejected_and_answered_again() {
    let world = start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, asks()).await;
    prompt(&world, &mut sender, |open| open.is_some_and(|open| open.id == "code" && open.secret)).await;
    // What does not have the shape never reaches the tool.
    assert_eq!(refused(&mut sender, "1234-5678").await, ("wrong_answer".into(), "Eight digits".into()));
    assert_eq!(taken(&mut sender, "  87654321\n").await, Pasted::Prompt { id: "code".into() });
    prompt(&world, &mut sender, |open| open.and_then(|open| open.refused.as_deref()) == Some("87654321 is unknown"))
        .await;
    assert_eq!(taken(&mut sender, "12345678").await, Pasted::Prompt { id: "code".into() });
    world.event("the end", |event| matches!(event, Event::Outcome(Outcome::Done)).then_some(())).await;
    prompt(&world, &mut sender, |open| open.is_none()).await;
    assert_eq!(world.sign_in(&mut sender).await.outcome, Some(Outcome::Done));
    assert_eq!(std::fs::read_to_string(world.home("codes")).unwrap(), "run:87654321\nrun:12345678\n");
    let (code, _) = refused(&mut sender, "12345678").await;
    assert_eq!(code, Problem::NoPrompt.code(), "nothing waits any more");
    until("all events", async || {
        let refusals = count(&world, |event| matches!(event, Event::PasteRefused { .. }));
        let pasted = count(&world, |event| matches!(event, Event::Pasted(Pasted::Prompt { .. })));
        ((refusals, pasted) == (2, 2)).then_some(())
    })
    .await;
    let reasons =
        count(&world, |event| matches!(event, Event::PromptOpened { ask: Some(ask), .. } if ask.refused.is_some()));
    assert_eq!(reasons, 1);
    let log = std::fs::read_to_string(world.path("agent.log")).unwrap();
    assert!(!log.contains("12345678") && !log.contains("87654321"), "{log}");
}

#[tokio::test]
async fn concurrent_pastes_are_typed_once() {
    let world = start().await;
    let mut one = world.connect().await;
    world.claim(&mut one, asks()).await;
    prompt(&world, &mut one, |open| open.is_some()).await;
    let mut second = one.clone();
    let (first, second) = tokio::join!(paste(&mut one, "12345678"), paste(&mut second, "12345678"));
    let statuses = [first.0, second.0];
    assert!(statuses.contains(&StatusCode::OK) && statuses.contains(&StatusCode::CONFLICT), "{statuses:?}");
    world.event("the end", |event| matches!(event, Event::Outcome(Outcome::Done)).then_some(())).await;
    assert_eq!(std::fs::read_to_string(world.home("codes")).unwrap(), "run:12345678\n");
}

#[tokio::test]
async fn changing_lanes_keeps_the_same_tool_running() {
    let world = start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, asks()).await;
    prompt(&world, &mut sender, |open| open.is_some()).await;
    // First in the page, then in the terminal.
    taken(&mut sender, "87654321").await;
    prompt(&world, &mut sender, |open| open.is_some_and(|open| open.refused.is_some())).await;
    let typed = serde_json::json!({ "text": "12345678", "enter": true });
    assert_eq!(post(&mut sender, "/input", &typed).await.0, 204);
    world.event("the end", |event| matches!(event, Event::Outcome(Outcome::Done)).then_some(())).await;
    assert_eq!(count(&world, |event| matches!(event, Event::CliStarted)), 1);
    assert_eq!(count(&world, |event| matches!(event, Event::CliExited { .. })), 0);
}

#[tokio::test]
async fn paste_without_a_prompt_rule_is_typed_into_the_terminal() {
    let world = start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, provider("read code; echo \"got <$code>\"; exit 0")).await;
    until("the tool runs", async || (world.sign_in(&mut sender).await.cli == CliState::Running).then_some(())).await;
    for bad in ["", "  ", "a\u{1b}[2Jb", &"x".repeat(16 * 1024 + 1)] {
        assert_eq!(refused(&mut sender, bad).await.0, Problem::Malformed.code());
    }
    assert_eq!(taken(&mut sender, "it's $HOME; \"x\"").await, Pasted::Terminal);
    shows(&mut sender, "got <it's $HOME; \"x\">").await;
    shows(&mut sender, "Press Enter to start it again").await;
    assert_eq!(refused(&mut sender, "once more").await.0, Problem::NoPrompt.code());
}

/// A tool's listener on the loopback: answers each request, says what was asked.
async fn listener() -> (u16, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = [
        "HTTP/1.1 302 Found\r\nLocation: /success\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    ];
    let served = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked.push(String::from_utf8(head).unwrap().lines().next().unwrap().to_owned());
        }
        asked
    });
    (port, served)
}

#[tokio::test]
async fn pasted_callback_url_reaches_the_listener_only_if_it_matches_the_sign_in() {
    let world = start().await;
    let mut sender = world.connect().await;
    let (port, served) = listener().await;
    let url =
        format!("https://a.example/authorize?redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fcallback&state=right%2B1");
    let mut tool = provider(&format!("\"$BROWSER\" '{url}'; cat"));
    tool.sign_in.callback_path = Some("/callback".into());
    world.claim(&mut sender, tool).await;
    found(&world, &url).await;
    let at = format!("http://localhost:{port}/callback");
    for (text, part) in [
        (format!("{at}?code=1&state=of-another"), "state"),
        (format!("{at}?code=1"), "state"),
        (format!("{at}/x?code=1&state=right%2B1"), "path"),
        (format!("http://localhost:{}/callback?code=1&state=right%2B1", port.wrapping_add(1)), "port"),
    ] {
        let (code, detail) = refused(&mut sender, &text).await;
        assert_eq!(code, Problem::WrongCallback.code(), "{text}");
        assert!(detail.ends_with(&format!(": {part}")), "{detail}");
    }
    assert!(!served.is_finished());
    let good = format!("{at}?code=a%2fb&state=right%2B1&scope=x+y");
    assert_eq!(taken(&mut sender, &good).await, Pasted::Callback { status: 200 });
    let asked = served.await.unwrap();
    assert_eq!(asked, ["GET /callback?code=a%2fb&state=right%2B1&scope=x+y HTTP/1.1", "GET /success HTTP/1.1"]);
    // The listener is gone by now.
    assert_eq!(refused(&mut sender, &good).await.0, Problem::CallbackFailed.code());
    world
        .event("it was told", |event| matches!(event, Event::Pasted(Pasted::Callback { status: 200 })).then_some(()))
        .await;
    let events = serde_json::to_string(&world.heard.lock().unwrap().events).unwrap();
    assert!(!events.contains("a%2fb") && !events.contains("of-another"), "{events}");
}

#[tokio::test]
async fn callback_url_is_rejected_without_a_loopback_listener() {
    let world = start().await;
    let mut sender = world.connect().await;
    world.claim(&mut sender, asks()).await;
    prompt(&world, &mut sender, |open| open.is_some()).await;
    let (code, detail) = refused(&mut sender, "http://localhost:1455/callback?code=12345678&state=x").await;
    assert_eq!(code, Problem::WrongCallback.code());
    assert!(detail.contains("does not wait"), "{detail}");
    assert!(!world.home("codes").exists());
}

#[tokio::test]
async fn method_change_to_a_key_and_back_restarts_the_tool() {
    let world = start().await;
    let mut sender = world.connect().await;
    let mut tool = asks();
    tool.sign_in.url = Some(r"https://a\.example/\S+".into());
    tool.argv[2] = format!("echo 'Visit https://a.example/login now'; {ASKS}");
    world.claim(&mut sender, tool.clone()).await;
    found(&world, "https://a.example/login").await;
    prompt(&world, &mut sender, |open| open.is_some_and(|open| open.id == "code")).await;
    let mut by_key = provider("read key; echo \"key of ${#key}\"; cat");
    by_key.method = MethodName::try_from("key".to_owned()).unwrap();
    let (shape, hint) = (Some("sk-[a-z]+".into()), Some("It begins with sk-".into()));
    by_key.key_entry = Some(KeyEntry { label: "The key".into(), shape, hint });
    let (status, body) = post(&mut sender, "/method", &SwitchMethod { provider: by_key }).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&body));
    prompt(&world, &mut sender, |open| open.is_some_and(|open| open.id == "key_entry")).await;
    let now = world.sign_in(&mut sender).await;
    assert_eq!((now.url, now.device_code), (None, None), "the other method's are forgotten");
    assert_eq!(refused(&mut sender, "12345678").await, ("wrong_answer".into(), "It begins with sk-".into()));
    assert_eq!(taken(&mut sender, "sk-abcdef").await, Pasted::Key);
    shows(&mut sender, "key of 9").await;
    prompt(&world, &mut sender, |open| open.is_none()).await;
    // And back: the same question is asked anew.
    assert_eq!(post(&mut sender, "/method", &SwitchMethod { provider: tool }).await.0, StatusCode::NO_CONTENT);
    prompt(&world, &mut sender, |open| open.is_some_and(|open| open.id == "code")).await;
    assert_eq!(taken(&mut sender, "12345678").await, Pasted::Prompt { id: "code".into() });
    until("the address, told again", async || {
        let told = count(&world, |event| matches!(event, Event::SignInUrl(found) if found.url.ends_with("/login")));
        (told == 2).then_some(())
    })
    .await;
}

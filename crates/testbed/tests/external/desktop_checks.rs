//! What is checked of each desktop of `desktops`.

use crate::{
    Fixture, TOKEN, closing,
    encryption::Certified,
    real_servers::{Qemu, TightVnc, X11Vnc},
    stand_ins::{RESPONSE, Rfb, SIZE, StandIn, Web},
    start, verdict,
    vnc_server::{self, PASSWORD, Vnc, Websockify},
    x11::KeyWatcher,
};
use anteroom_testbed::{
    ApiClient, Script, ScriptedProvider, TestConfig, TestServer, WAIT_MAX,
    fake_rfb_server::{background_colour_after_key, initial_background_colour},
};
use anteroom_wire::{SessionId, TimelineKind};
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// What happens with a desktop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// Viewers see it and type; view-only viewers only see it.
    Shown,
    /// The page asks for its password.
    AsksForPassword,
    /// The problem, and its detail in parts. No further attempts.
    Refused(&'static str, &'static [&'static str]),
}

/// How it is seen that a key has arrived.
enum Keys {
    /// The background of the viewer's own picture.
    Background,
    /// An X client that has the keyboard.
    X11(KeyWatcher),
    /// Not at all: the machine of the desktop is halted.
    Unseen,
}

/// The settings of the desktop's password file, after `key`; `""`: none.
fn login(fixture: &Fixture, key: &str, password: &str) -> String {
    if key.is_empty() {
        return String::new();
    }
    format!("{key} = {:?}", fixture.token_file("password", password))
}

/// Starts a server whose machine `desk` has this address, checks `expected`, and ends the server.
async fn check(fixture: &Fixture, desktop: &str, settings: &str, size: (u16, u16), keys: Keys, expected: Expected) {
    // Real servers start slowly on a busy host.
    let machine = fixture.machine("desk", desktop, TOKEN).replace("greeting_ms_max = 700", "greeting_ms_max = 20000");
    let settings = format!("[log]\nlevel = 'trace'\n[sessions]\nsocket_wait_ms_max = 30000\n{machine}{settings}\n");
    let provider = ScriptedProvider::new("scripted", Script::new([]));
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = start(&api).await.session.id;
    match expected {
        Expected::Shown => check_shown(&api, &id, size, keys).await,
        Expected::AsksForPassword => check_asks(&api, &id).await,
        Expected::Refused(problem, detail) => check_refused(&api, &id, problem, &detail.concat()).await,
    }
    assert!(!server.read_log().contains(&STANDARD.encode(format!("ann:{PASSWORD}"))), "the log has the sign-in");
    server.stop_and_check_leaks().await.unwrap();
}

async fn check_shown(api: &ApiClient, id: &SessionId, size: (u16, u16), mut keys: Keys) {
    let mut watcher = api.connect_view_only_desktop(id).await.unwrap();
    let mut viewer = api.connect_desktop(id).await.unwrap();
    for viewer in [&mut watcher, &mut viewer] {
        let frame = timeout(WAIT_MAX, viewer.request_full_frame()).await.expect("a whole frame").unwrap();
        assert_eq!((frame.width(), frame.height()), size);
    }
    // The desktop reads in order: a key that was sent before the request has arrived before the answer.
    watcher.press_key(u32::from('b')).await.unwrap();
    let frame = timeout(WAIT_MAX, watcher.request_full_frame()).await.expect("a whole frame").unwrap();
    let corner = (size.0 - 1, size.1 - 1);
    if let Keys::Background = keys {
        let before = initial_background_colour("a desk of another maker");
        assert_eq!(frame.pixel(corner.0, corner.1), Some(before), "a view-only viewer has typed");
    }
    viewer.press_key(u32::from('a')).await.unwrap();
    match &mut keys {
        Keys::Background => {
            let frame = timeout(WAIT_MAX, viewer.request_full_frame()).await.expect("a whole frame").unwrap();
            assert_eq!(frame.pixel(corner.0, corner.1), Some(background_colour_after_key(u32::from('a'))));
        }
        Keys::X11(watcher) => assert_eq!(watcher.next_keysym().await, u32::from('a'), "the first key that arrived"),
        Keys::Unseen => {
            timeout(WAIT_MAX, viewer.request_full_frame()).await.expect("a whole frame").unwrap();
        }
    }
    assert_eq!(verdict(api, id).await.0, "waiting_for_user");
    let timeline = api.get_timeline(id).await.unwrap();
    let failed = timeline.iter().filter(|entry| entry.kind == TimelineKind::DesktopConnectFailed).count();
    assert_eq!(failed, 0, "{timeline:#?}");
}

/// The viewer gets RFB 3.8 with VNC authentication, the desktop judges the answer, and a failure has a reason.
async fn check_asks(api: &ApiClient, id: &SessionId) {
    for (response, is_right) in [([7; 16], false), (RESPONSE, true)] {
        let mut socket = api.open_desktop_socket(id).await.unwrap();
        let mut offer = [0; 14];
        timeout(WAIT_MAX, socket.read_exact(&mut offer[..12])).await.unwrap().unwrap();
        socket.write_all(b"RFB 003.008\n").await.unwrap();
        socket.read_exact(&mut offer[12..]).await.unwrap();
        assert_eq!(&offer, b"RFB 003.008\n\x01\x02");
        socket.write_all(b"\x02").await.unwrap();
        socket.read_exact(&mut [0; 16]).await.unwrap();
        socket.write_all(&response).await.unwrap();
        socket.flush().await.unwrap();
        let result = socket.read_u32().await.unwrap();
        assert_eq!(result == 0, is_right);
        if !is_right {
            let mut reason = vec![0; socket.read_u32().await.unwrap() as usize];
            socket.read_exact(&mut reason).await.unwrap();
            assert!(!reason.is_empty(), "the viewer gets a reason");
        }
    }
}

/// Two viewers are refused with the same cause, which is one entry of the timeline. With close code 4511 the page does not try again.
async fn check_refused(api: &ApiClient, id: &SessionId, problem: &str, detail: &str) {
    let close_code = if problem == "external_wrong_protocol" { 4502 } else { 4511 };
    for _ in 0..2 {
        let (code, reason) = closing(&mut api.open_desktop_socket(id).await.unwrap()).await;
        assert_eq!((code, reason.split(':').next()), (close_code, Some(problem)), "{reason}");
    }
    let entry = api.wait_entry(id, TimelineKind::DesktopConnectFailed).await.unwrap();
    assert_eq!((entry.data["reason"].as_str(), entry.data["detail"].as_str()), (Some(problem), Some(detail)));
    let timeline = api.get_timeline(id).await.unwrap();
    let failed = timeline.iter().filter(|entry| entry.kind == TimelineKind::DesktopConnectFailed).count();
    assert_eq!(failed, 1, "the cause is recorded once: {timeline:#?}");
    let (code, text) = verdict(api, id).await;
    assert_eq!(code, problem);
    assert!(text.contains(&detail.replace('"', "\\\"")), "the diagnosis has the detail: {text}");
}

pub(crate) async fn stand_in(web: Web, rfb: Rfb, login_key: &str, expected: Expected) {
    let server = StandIn::start(web, rfb).await;
    let scheme = if web == Web::No { "vnc" } else { "ws" };
    let fixture = Fixture::new();
    let settings = login(&fixture, login_key, PASSWORD);
    check(&fixture, &format!("{scheme}://{}", server.at), &settings, SIZE, Keys::Background, expected).await;
    let connections = match (expected, web) {
        // Each of the two viewers tried once without a subprotocol, too.
        (_, Web::NoSubprotocol) => 4,
        _ => 2,
    };
    assert_eq!(server.accepted(), connections, "one connection for each viewer");
}

pub(crate) async fn tigervnc(security_types: &str, expected: Expected) {
    let arguments = ["-SecurityTypes", security_types, "-geometry", "1367x769"].map(str::to_owned);
    let vnc = Vnc::start(&arguments).await;
    let keys = Keys::X11(KeyWatcher::start(vnc.display).await);
    check(&Fixture::new(), &format!("vnc://{}", vnc.at), "", (1367, 769), keys, expected).await;
    vnc.end().await;
}

const TIGERVNC_SIZE: (u16, u16) = (vnc_server::WIDTH, vnc_server::HEIGHT);

pub(crate) async fn tigervnc_with_password(password: &str, expected: Expected) {
    let fixture = Fixture::new();
    let vnc = Vnc::start(&vnc_server::with_password(&fixture)).await;
    let keys = Keys::X11(KeyWatcher::start(vnc.display).await);
    let settings = login(&fixture, "password_file", password);
    check(&fixture, &format!("vnc://{}", vnc.at), &settings, TIGERVNC_SIZE, keys, expected).await;
    vnc.end().await;
}

pub(crate) async fn tigervnc_with_vencrypt(expected: Expected) {
    let fixture = Fixture::new();
    let certified = Certified::new(&fixture, &["127.0.0.1"], false);
    let vnc = Vnc::start(&certified.vnc_arguments_with_password(&fixture)).await;
    let keys = Keys::X11(KeyWatcher::start(vnc.display).await);
    let settings = format!("{}\n{}", certified.ca_setting(), login(&fixture, "password_file", PASSWORD));
    check(&fixture, &format!("vencrypt://{}", vnc.at), &settings, TIGERVNC_SIZE, keys, expected).await;
    vnc.end().await;
}

pub(crate) async fn tigervnc_behind_websockify(expected: Expected) {
    let vnc = Vnc::start(&[]).await;
    let websockify = Websockify::start(vnc.at).await;
    let keys = Keys::X11(KeyWatcher::start(vnc.display).await);
    check(&Fixture::new(), &format!("ws://{}/", websockify.at), "", TIGERVNC_SIZE, keys, expected).await;
    websockify.end().await;
    vnc.end().await;
}

pub(crate) async fn x11vnc(scheme: &str, has_password: bool, expected: Expected) {
    let fixture = Fixture::new();
    let server = X11Vnc::start(&fixture, has_password).await;
    let keys = Keys::X11(KeyWatcher::start(server.display).await);
    let settings = login(&fixture, if has_password { "password_file" } else { "" }, PASSWORD);
    check(&fixture, &format!("{scheme}://{}", server.at), &settings, X11Vnc::SIZE, keys, expected).await;
    server.end().await;
}

pub(crate) async fn tightvnc(has_password: bool, expected: Expected) {
    let fixture = Fixture::new();
    let server = TightVnc::start(&fixture, has_password).await;
    let keys = Keys::X11(KeyWatcher::start(server.display).await);
    let settings = login(&fixture, if has_password { "password_file" } else { "" }, PASSWORD);
    check(&fixture, &format!("vnc://{}", server.at), &settings, TightVnc::SIZE, keys, expected).await;
    server.end().await;
}

pub(crate) async fn qemu(has_password: bool, expected: Expected) {
    let fixture = Fixture::new();
    let server = Qemu::start(&fixture, has_password).await;
    let settings = login(&fixture, if has_password { "password_file" } else { "" }, PASSWORD);
    check(&fixture, &format!("vnc://{}", server.at), &settings, Qemu::SIZE, Keys::Unseen, expected).await;
    server.end().await;
}

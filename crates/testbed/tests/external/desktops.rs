//! Desktops of other makers: each is seen, typed into and watched through the server, or refused once with a sentence that says what to set.
//! The rows are the table in `docs/external_machines.md`.

use crate::{
    desktop_checks::{
        Expected::{self, AsksForPassword, Refused, Shown},
        qemu, stand_in, tigervnc, tigervnc_behind_websockify, tigervnc_with_password, tigervnc_with_vencrypt, tightvnc,
        x11vnc,
    },
    stand_ins::{RFB_3_8, Rfb, Web},
    vnc_server::PASSWORD,
};
use std::{fmt::Write as _, path::Path};

/// One row of the table.
struct Row {
    desktop: &'static str,
    address: &'static str,
    server: &'static str,
    expected: Expected,
}

/// The server of a test is Debian's.
const REAL: &str = "Debian's";
/// The server of a test does the maker's handshake, byte for byte.
const STAND_IN: &str = "a stand-in";

macro_rules! desktops {
    ($( $test:ident: $desktop:literal, $address:literal, $server:ident, $expected:expr, $run:expr; )*) => {
        /// All desktops, one test each.
        const ROWS: &[Row] = &[$( Row { desktop: $desktop, address: $address, server: $server, expected: $expected }, )*];

        $( #[tokio::test] async fn $test() { ($run)($expected).await } )*
    };
}

const V3_3: &[u8; 12] = b"RFB 003.003\n";
const V3_5: &[u8; 12] = b"RFB 003.005\n";
const V3_7: &[u8; 12] = b"RFB 003.007\n";
const V3_8: &[u8; 12] = b"RFB 003.008\n";
const OF_APPLE: &[u8; 12] = b"RFB 003.889\n";
const OF_REALVNC: &[u8; 12] = b"RFB 005.000\n";

const UNSUPPORTED: &str = "external_security_unsupported";
const PASSWORD_REJECTED: &str = "external_password_rejected";
const WRONG_PROTOCOL: &str = "external_wrong_protocol";
const REJECTED: &str = "external_rejected";
const SET_VNCAUTH: &str =
    "set VncAuth there (RealVNC: Authentication=VncAuth and Encryption=PreferOff; TigerVNC: SecurityTypes=VncAuth)";
const SET_APPLE: &str =
    "in the settings of Screen Sharing or Remote Management there, let VNC viewers control the screen with a password";

/// A desktop over TCP without settings.
async fn plain(rfb: Rfb, expected: Expected) {
    stand_in(Web::No, rfb, "", expected).await;
}

/// A desktop over TCP with the right password.
async fn with_password(rfb: Rfb, expected: Expected) {
    stand_in(Web::No, rfb, "password_file", expected).await;
}

/// A desktop behind a WebSocket.
async fn web(web: Web, settings: &str, expected: Expected) {
    stand_in(web, RFB_3_8, settings, expected).await;
}

desktops! {
    tigervnc_odd_size: "TigerVNC, no password, 1367 × 769", "`vnc://`", REAL, Shown,
        async |expected| tigervnc("None", expected).await;
    tigervnc_password: "TigerVNC, `VncAuth`", "`vnc://`, `password_file`", REAL, Shown,
        async |expected| tigervnc_with_password(PASSWORD, expected).await;
    tigervnc_wrong_password: "TigerVNC, `VncAuth`", "`vnc://`, a wrong `password_file`", REAL,
        Refused(PASSWORD_REJECTED, &["it rejected the user or password in the configuration: Authentication failure"]),
        async |expected| tigervnc_with_password("not this", expected).await;
    tigervnc_x509_password: "TigerVNC, `X509Vnc`", "`vencrypt://`, `password_file`", REAL, Shown, tigervnc_with_vencrypt;
    tigervnc_anonymous_tls: "TigerVNC, `TLSVnc` alone", "`vnc://`", REAL,
        Refused(UNSUPPORTED, &["it offers only the security types 19 (VeNCrypt); use an address with vencrypt:// and give the desktop \
            a certificate (X509Vnc), or set SecurityTypes=VncAuth there"]),
        async |expected| tigervnc("TLSVnc", expected).await;
    websockify: "TigerVNC behind websockify", "`ws://`", REAL, Shown, tigervnc_behind_websockify;
    x11vnc_without_password: "x11vnc, no password", "`vnc://`", REAL, Shown,
        async |expected| x11vnc("vnc", false, expected).await;
    x11vnc_password: "x11vnc, `-rfbauth`", "`vnc://`, `password_file`", REAL, Shown,
        async |expected| x11vnc("vnc", true, expected).await;
    r05_x11vnc_websocket: "x11vnc's own WebSocket (libvncserver)", "`ws://`, `password_file`", REAL, Shown,
        async |expected| x11vnc("ws", true, expected).await;
    tightvnc_without_password: "TightVNC (`Xtightvnc`), no password", "`vnc://`", REAL, Shown,
        async |expected| tightvnc(false, expected).await;
    tightvnc_password: "TightVNC, `-rfbauth`", "`vnc://`, `password_file`", REAL, Shown,
        async |expected| tightvnc(true, expected).await;
    qemu_without_password: "QEMU's VNC, no password", "`vnc://`", REAL, Shown, async |expected| qemu(false, expected).await;
    qemu_password: "QEMU's VNC, `password-secret`", "`vnc://`, `password_file`", REAL, Shown,
        async |expected| qemu(true, expected).await;
    r05_kasmvnc: "KasmVNC, `-disableBasicAuth`", "`ws://`", STAND_IN, Shown,
        async |expected| web(Web::OriginOr404, "", expected).await;
    r05_kasmvnc_basic: "KasmVNC", "`ws://`, `user`, `password_file`", STAND_IN, Shown,
        async |expected| web(Web::Basic, "user = 'ann'\npassword_file", expected).await;
    r05_kasmvnc_without_user: "KasmVNC", "`ws://`", STAND_IN,
        Refused(PASSWORD_REJECTED, &["it answered the WebSocket handshake with HTTP status 401: it asks for a user and a password; set \
            user and password_file"]),
        async |expected| web(Web::Basic, "", expected).await;
    r05_libvncserver: "libvncserver, the C websockify", "`ws://`", STAND_IN, Shown,
        async |expected| web(Web::OriginOrClosed, "", expected).await;
    r05_no_subprotocol: "a WebSocket server that names no subprotocol", "`ws://`", STAND_IN, Shown,
        async |expected| web(Web::NoSubprotocol, "", expected).await;
    r05_forbidden: "a WebSocket server that forbids this host", "`ws://`", STAND_IN,
        Refused(REJECTED, &["it answered the WebSocket handshake with HTTP status 403: it does not accept this host; allow it there"]),
        async |expected| web(Web::Status(403), "", expected).await;
    base64_websocket: "an old websockify without `binary`", "`ws://`", STAND_IN,
        Refused(WRONG_PROTOCOL, &["it answers with another WebSocket subprotocol than `binary`, for example `base64`: use a newer websockify \
            there"]),
        async |expected| web(Web::Base64, "", expected).await;
    missing_path: "a WebSocket server with another path", "`ws://`", STAND_IN,
        Refused(WRONG_PROTOCOL, &["it answered the WebSocket handshake with HTTP status 404: nothing is at this path; correct the path of \
            the address, often /websockify"]),
        async |expected| web(Web::Status(404), "", expected).await;
    repeater: "a repeater (`RFB 000.000`)", "`vnc://`", STAND_IN,
        Refused(WRONG_PROTOCOL, &["its RFB version is older than 3.3, or it is a repeater"]),
        async |expected| plain(Rfb::Greeting(b"RFB 000.000\n"), expected).await;
    r23_rfb33: "RFB 3.3, no password", "`vnc://`", STAND_IN, Shown,
        async |expected| plain(Rfb::Selects(V3_3, 1), expected).await;
    r23_rfb33_asks: "RFB 3.3 with a password", "`vnc://`", STAND_IN, AsksForPassword,
        async |expected| plain(Rfb::Selects(V3_3, 2), expected).await;
    r23_rfb35_password: "RFB 3.5 with a password", "`vnc://`, `password_file`", STAND_IN, Shown,
        async |expected| with_password(Rfb::Selects(V3_5, 2), expected).await;
    r23_rfb37: "RFB 3.7, no password", "`vnc://`", STAND_IN, Shown,
        async |expected| plain(Rfb::Types(V3_7, V3_7, &[1]), expected).await;
    r23_rfb37_asks: "RFB 3.7 with a password", "`vnc://`", STAND_IN, AsksForPassword,
        async |expected| plain(Rfb::Types(V3_7, V3_7, &[2]), expected).await;
    r23_rfb38_asks: "RFB 3.8 with a password", "`vnc://`", STAND_IN, AsksForPassword,
        async |expected| plain(Rfb::Types(V3_8, V3_8, &[2]), expected).await;
    r25_realvnc: "RealVNC with a sign-in of its own", "`vnc://`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 13 (RealVNC), 5 (RA2); ", SET_VNCAUTH]),
        async |expected| plain(Rfb::Types(OF_REALVNC, V3_8, &[13, 5]), expected).await;
    r25_raspberry_pi: "RealVNC of a Raspberry Pi", "`vnc://`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 13 (RealVNC), 5 (RA2), 6 (RA2ne), 130 (RA2ne-256), 192 (RealVNC); ",
            SET_VNCAUTH]),
        async |expected| plain(Rfb::Types(OF_REALVNC, V3_8, &[13, 5, 6, 130, 192]), expected).await;
    r25_realvnc_vncauth: "RealVNC, `Authentication=VncAuth`", "`vnc://`, `password_file`", STAND_IN, Shown,
        async |expected| with_password(Rfb::Types(OF_REALVNC, V3_8, &[2]), expected).await;
    apple: "Apple, no VNC password", "`vnc://`, `password_file`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 30 (Apple Remote Desktop), 33 (Apple), 36 (Apple), 35 (Apple); ",
            SET_APPLE]),
        async |expected| with_password(Rfb::Types(OF_APPLE, V3_8, &[30, 33, 36, 35]), expected).await;
    apple_vnc_password: "Apple, VNC viewers may control the screen", "`vnc://`, `password_file`", STAND_IN, Shown,
        async |expected| with_password(Rfb::Types(OF_APPLE, V3_8, &[30, 33, 36, 2, 35]), expected).await;
    apple_new: "Apple, only newer sign-ins", "`vnc://`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 33 (Apple), 36 (Apple), 35 (Apple); ", SET_APPLE]),
        async |expected| plain(Rfb::Types(OF_APPLE, V3_8, &[33, 36, 35]), expected).await;
    anonymous_tls: "anonymous TLS (type 18)", "`vnc://`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 18 (TLS); anonymous TLS proves nothing: set SecurityTypes=X509Vnc \
            there and use vencrypt://, or SecurityTypes=VncAuth"]),
        async |expected| plain(Rfb::Types(V3_8, V3_8, &[18]), expected).await;
    tight_alone: "Tight security (type 16) alone", "`vnc://`", STAND_IN,
        Refused(UNSUPPORTED, &["it offers only the security types 16 (Tight); set VNC authentication (VncAuth, a VNC password) there"]),
        async |expected| plain(Rfb::Types(V3_8, V3_8, &[16]), expected).await;
    locked_out: "a desktop after too many wrong passwords", "any", STAND_IN,
        Refused(REJECTED, &["it refused the connection: Too many authentication failures"]),
        async |expected| plain(Rfb::Refuses("Too many authentication failures"), expected).await;
}

fn table() -> String {
    let mut table = "| desktop | address and settings here | tested with | result |\n|---|---|---|---|\n".to_owned();
    for Row { desktop, address, server, expected } in ROWS {
        let result = match expected {
            Shown => "shown and typed into; a view-only viewer sends nothing".to_owned(),
            AsksForPassword => "the page asks for the password".to_owned(),
            Refused(problem, detail) => format!("`{problem}`: {}", detail.concat()),
        };
        writeln!(table, "| {desktop} | {address} | {server} | {result} |").unwrap();
    }
    table
}

/// `ANTEROOM_WRITE_DOCS=1` rewrites the table.
#[test]
fn table_of_desktops_in_the_document_matches_the_tests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/external_machines.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- desktops: begin -->\n", "<!-- desktops: end -->");
    let (head, rest) = page.split_once(begin).expect("the marker before the table");
    let (_, tail) = rest.split_once(end).expect("the marker after the table");
    let wanted = format!("{head}{begin}{}{end}{tail}", table());
    if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page == wanted, "docs/external_machines.md differs from the tests; ANTEROOM_WRITE_DOCS=1 writes it");
}

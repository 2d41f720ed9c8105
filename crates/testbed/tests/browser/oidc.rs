//! People sign in at an OpenID provider in a real browser, which `web/e2e/real/oidc.mjs` drives.

use anteroom_testbed::{
    OidcIssuer, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX,
    oidc_issuer::{OidcFault, Person},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// What the page shows after a command.
#[derive(Debug, Deserialize)]
struct Seen {
    url: String,
    problem: Option<String>,
    text: String,
    can_sign_in: bool,
    page_errors: Vec<String>,
    /// `GET /api/me`, after a sign-in.
    caller: Option<Value>,
    sessions: Option<usize>,
    /// Where the browser is after it has signed out at the provider.
    after_provider: Option<String>,
    /// The cookies that are left after a sign-out.
    cookies: Option<usize>,
}

struct Browser {
    script: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn open(base: &str) -> Self {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
        let mut command = Command::new("node");
        command.arg("e2e/real/oidc.mjs").current_dir(web).env("ANTEROOM_E2E_BASE", base);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut script = command.spawn().expect("node starts: ./test installs it");
        let (input, output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        Self { script, input, lines: BufReader::new(output).lines() }
    }

    async fn run(&mut self, command: Value) -> Seen {
        self.input.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let line = timeout(2 * WAIT_MAX, self.lines.next_line()).await.expect("the script prints a line in time");
        let line = line.unwrap().expect("the script failed; its error is above");
        let seen: Seen = serde_json::from_str(&line).unwrap();
        assert_eq!(seen.page_errors, Vec::<String>::new(), "{command}");
        assert!(!seen.url.contains("code=") && !seen.url.contains("state="), "{command}: {}", seen.url);
        seen
    }

    async fn sign_in(&mut self, person: &str) -> Seen {
        self.run(json!({ "do": "sign-in", "person": person })).await
    }

    async fn close(mut self) {
        drop(self.input);
        assert!(timeout(WAIT_MAX, self.script.wait()).await.expect("the browser exits").unwrap().success());
    }
}

/// Starts a provider that has these faults from the start, and a server.
async fn start(faults: &[OidcFault]) -> (tempfile::TempDir, OidcIssuer, TestServer) {
    let people = [
        Person::in_groups("ada", "Ada Example", &["people"]),
        Person::in_groups("bob", "Bob Example", &["people"]),
        Person::in_groups("eve", "Eve Example", &["strangers"]),
    ];
    let (dir, issuer) = (tempfile::tempdir().unwrap(), OidcIssuer::start(people).await.unwrap());
    issuer.set_faults(faults.iter().copied());
    let secret = dir.path().join("client_secret");
    fs::write(&secret, issuer.client_secret()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!(
        "[oidc]\nissuer = '{}'\nclient_id = '{}'\nclient_secret_file = '{}'\n[oidc.roles]\n'people' = 'user'\n",
        issuer.url(),
        issuer.client_id(),
        secret.display()
    );
    let wait = Step::WaitForFile { path: dir.path().join("never"), ms_max: 300_000 };
    let provider = ScriptedProvider::new("scripted", Script::new([Step::print_line("Nothing to do"), wait]));
    let server = TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await.unwrap();
    issuer.register_redirect_uri(&format!("{}/sign-in/callback", server.base_url().unwrap()));
    issuer.register_post_logout_redirect_uri(&format!("{}/", server.base_url().unwrap()));
    (dir, issuer, server)
}

#[tokio::test]
async fn oidc_person_signs_in_uses_the_dashboard_and_signs_out() {
    let (_dir, _issuer, server) = start(&[]).await;
    let base = server.base_url().unwrap();
    let (mut ada, mut bob) = (Browser::open(&base), Browser::open(&base));
    let seen = ada.sign_in("Ada Example").await;
    assert_eq!((seen.url, seen.problem), (format!("{base}/dashboard/remote-cli"), None));
    let caller = seen.caller.unwrap();
    assert_eq!((&caller["name"], &caller["role"]), (&json!("Ada Example"), &json!("user")));
    assert_eq!(ada.run(json!({ "do": "start" })).await.sessions, Some(1));
    assert_eq!(bob.sign_in("Bob Example").await.sessions, Some(0), "another person's session is not shown");
    bob.close().await;
    let out = ada.run(json!({ "do": "sign-out" })).await;
    assert!(out.can_sign_in, "{}", out.text);
    assert_eq!((out.after_provider, out.cookies), (Some(format!("{base}/")), Some(0)));
    ada.close().await;
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn oidc_refused_sign_ins_are_explained_on_the_page() {
    for modes in [&[][..], &[OidcFault::QueryResponsesOnly]] {
        let (_dir, issuer, server) = start(modes).await;
        let mut browser = Browser::open(&server.base_url().unwrap());
        assert_eq!(browser.sign_in("Ada Example").await.problem, None);
        let replayed = browser.run(json!({ "do": "replay" })).await;
        assert_refused(&replayed, "sign_in_expired", "used before");
        browser.run(json!({ "do": "sign-out" })).await;
        for (fault, person, code, words) in [
            (Some(OidcFault::AnotherNonce), "Ada Example", "id_token_invalid", "tell the people who run this page"),
            (Some(OidcFault::ExpiredCode), "Ada Example", "code_rejected", "This sign-in did not work"),
            (Some(OidcFault::TokenServerError), "Ada Example", "issuer_unavailable", "does not answer"),
            (None, "Deny", "sign_in_denied", "declined"),
            (None, "Eve Example", "no_role", "may not be used here"),
        ] {
            issuer.set_faults(modes.iter().copied().chain(fault));
            // The provider does not know the person yet.
            let seen = browser.run(json!({ "do": "sign-in-elsewhere", "person": person })).await;
            assert_refused(&seen, code, words);
        }
        browser.close().await;
        server.stop_and_check_leaks().await.unwrap();
    }
}

/// Checks that the page names the problem, and offers another attempt.
fn assert_refused(seen: &Seen, code: &str, words: &str) {
    assert_eq!(seen.problem.as_deref(), Some(code), "{}", seen.text);
    assert!(seen.text.contains(words) && seen.can_sign_in, "{seen:?}");
}

//! Addresses and codes on synthetic screens and on those that real tools showed.

use super::*;

mod layouts;

fn finder_for(url: &str) -> SignInFinder {
    let code = Some(r"one-time code:? +([A-Z0-9]{4}-[A-Z0-9]{4,5})".into());
    SignInFinder::new(&SignInRules { url: Some(url.into()), code, ..SignInRules::default() }).unwrap()
}

/// A screen whose cursor has left the text.
fn screen(text: &[&str], width: usize) -> ScreenSnapshot {
    let lines = text.iter().map(|&line| line.to_owned()).collect();
    ScreenSnapshot { lines, width, ..ScreenSnapshot::default() }
}

fn url_on(snapshot: &ScreenSnapshot) -> Option<String> {
    finder_for(r"https://\S+").find(snapshot).url.map(|found| found.text)
}

/// A real tool's screen, 120 columns wide unless it was wrapped by the terminal.
fn fixture(name: &str) -> ScreenSnapshot {
    let path = format!("{}/../testbed/fixtures/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let lines = text.lines().map(str::to_owned).collect();
    ScreenSnapshot { lines, width: 120, cursor_in_text: true, ..ScreenSnapshot::default() }
}

#[test]
fn a_url_and_a_code_are_found() {
    let snapshot = screen(&["Open https://a.example/device?x=1 and enter", "  your one-time code: AB12-CD345"], 80);
    let found = finder_for(r"https://\S+").find(&snapshot);
    let whole = |text: &str| Some(ScreenMatch { text: text.into(), maybe_incomplete: false });
    assert_eq!((found.url, found.code), (whole("https://a.example/device?x=1"), whole("AB12-CD345")));
}

#[test]
fn a_url_broken_at_the_last_column_is_joined() {
    let url = format!("https://a.example/oauth?{}", "abcdefghij".repeat(6));
    let (one, two) = url.split_at(40);
    let (two, three) = two.split_at(40);
    let snapshot = screen(&[one, two, three, "", "Paste the code here"], 40);
    assert_eq!(url_on(&snapshot).as_deref(), Some(&url[..]));
    // A line that does not reach the last column ends the address.
    assert_eq!(url_on(&screen(&["https://a.example/x", "Paste"], 40)).as_deref(), Some("https://a.example/x"));
    // A full line of prose takes nothing with it.
    let prose = "x".repeat(40);
    assert_eq!(url_on(&screen(&[&prose, "https://a.example/y"], 40)).as_deref(), Some("https://a.example/y"));
}

#[test]
fn a_url_broken_and_indented_is_joined() {
    let url = format!("https://a.example/oauth?{}&end=1", "abcdefghij".repeat(8));
    let (one, two) = url.split_at(40);
    let (two, three) = two.split_at(40);
    for (margin, indent) in [(0, "  "), (2, "  "), (4, "")] {
        let lines: Vec<String> = [one, two, three].iter().map(|part| format!("{indent}{part}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let snapshot = screen(&[&lines[..], &["", "Waiting"]].concat(), indent.len() + 40 + margin);
        assert_eq!(url_on(&snapshot).as_deref(), Some(&url[..]), "margin {margin}, indentation {indent:?}");
    }
}

#[test]
fn text_below_a_long_url_is_not_joined_to_it() {
    let url = format!("https://a.example/{}", "x".repeat(40 - 18));
    for below in ["Paste the code here", "https://b.example/next", "│ in a box │", "      far-away/1", ""] {
        let snapshot = screen(&["See this:", &url, below, "end of it"], 40);
        let found = finder_for(r"https://a\S+").find(&snapshot).url.unwrap();
        assert_eq!(found.text, url, "{below:?}");
    }
    // With a margin, one plain word is prose.
    let snapshot = screen(&[&url, "Waiting..."], 42);
    assert_eq!(url_on(&snapshot).as_deref(), Some(&url[..]));
}

#[test]
fn a_url_that_may_be_incomplete_is_marked() {
    let finder = finder_for(r"https://\S+");
    let maybe_incomplete = |snapshot: &ScreenSnapshot| finder.find(snapshot).url.unwrap().maybe_incomplete;
    let writing = |text: &[&str], width| ScreenSnapshot { cursor_in_text: true, ..screen(text, width) };
    assert!(maybe_incomplete(&writing(&["https://a.example/half"], 80)));
    assert!(!maybe_incomplete(&screen(&["https://a.example/whole"], 80)), "a line feed followed");
    assert!(!maybe_incomplete(&writing(&["https://a.example/whole and"], 80)), "another word followed");
    assert!(!maybe_incomplete(&writing(&["https://a.example/whole", "Code:"], 80)), "another line followed");
    let full = format!("https://a.example/{}", "x".repeat(40 - 18));
    assert!(maybe_incomplete(&screen(&[&full], 40)), "the program may go on in the next line");
}

#[test]
fn a_hyperlink_counts_if_the_pattern_matches_its_start() {
    let finder = finder_for(r"https://(?:[a-z]+\.)?a\.example/authorize\?");
    let mut snapshot = screen(&["Open this link"], 80);
    snapshot.links = [
        "https://a.example/authorize?x=1",
        "https://b.example/?to=https://a.example/authorize?",
        "https://a.example/tos",
    ]
    .map(str::to_owned)
    .to_vec();
    assert_eq!(finder.find(&snapshot).hyperlink_url.as_deref(), Some("https://a.example/authorize?x=1"));
    assert_eq!(finder.find(&snapshot).url, None);
    let none = SignInFinder::new(&SignInRules::default()).unwrap();
    assert_eq!(none.find(&snapshot), FoundSignIn::default(), "without a pattern no link is known to be the right one");
}

#[test]
fn urls_on_recorded_screens_are_complete() {
    let google = r"https://accounts\.google\.com/o/oauth2/v2/auth\?\S+\.apps\.googleusercontent\.com";
    let claude = r"https://(?:[a-z]+\.)?claude\.(?:ai|com)/(?:[a-z]+/)*oauth/authorize\?\S+";
    for (pattern, name, begins, ends) in [
        (
            google,
            "gemini_cli-0.61.0/browser-waiting",
            "https://accounts.google.com/o/oauth2/v2/auth?redirect_uri=http%3A%2F%2F127.0.0.1%3A",
            "135j.apps.googleusercontent.com",
        ),
        (
            google,
            "gemini_cli-0.61.0/link-waiting",
            "https://accounts.google.com/o/oauth2/v2/auth?redirect_uri=https%3A%2F%2Fcodeassist",
            "135j.apps.googleusercontent.com",
        ),
        (claude, "claude_code-2.1.332/setup-token-waiting", "https://claude.com/cai/oauth/authorize?code=true", "xxxx"),
        (claude, "claude_code-2.1.332/link-waiting", "https://claude.com/cai/oauth/authorize?code=true", "xxxx"),
        (claude, "claude_code-2.1.332/login-waiting", "https://claude.ai/oauth/authorize?z-", "xxxx"),
    ] {
        let found = finder_for(pattern).find(&fixture(name)).url.unwrap();
        assert!(found.text.starts_with(begins) && found.text.ends_with(ends), "{name}: {}", found.text);
        assert!(!found.maybe_incomplete, "{name}");
        if !name.contains("login") {
            let count = |what: &str| found.text.matches(what).count();
            assert_eq!((count("state="), count("redirect_uri="), count("response_type=code")), (1, 1, 1), "{name}");
        }
    }
}

#[test]
fn only_web_urls_can_be_opened() {
    assert_eq!(web_url_host("https://u:p@A.example:8443/x?y#z").as_deref(), Some("a.example"));
    assert_eq!(web_url_host("http://[::1]:1/x").as_deref(), Some("::1"));
    for bad in [
        "file:///etc/passwd",
        "javascript://a/%0aalert(1)",
        "https://",
        "https:///x",
        "https://a b",
        "a",
        "https://a\n",
    ] {
        assert_eq!(web_url_host(bad), None, "{bad:?}");
    }
    assert_eq!(web_url_host(&format!("https://a/{}", "x".repeat(URL_BYTES_MAX))), None);
}

#[test]
fn an_invalid_pattern_is_named_in_the_error() {
    let rules = SignInRules { url: Some("(".into()), ..SignInRules::default() };
    assert!(SignInFinder::new(&rules).is_err_and(|error| error.to_string().contains("sign_in.url")));
}

#[test]
fn queries_and_tokens_are_masked() {
    assert_eq!(mask_secrets("see https://a.example/x?code=secret now"), "see https://a.example/x?… now");
    assert_eq!(mask_secrets("token sk-ant-oat01-abcdefghijklmnop done"), "token ••• done");
    assert_eq!(mask_secrets("sk-ant-oat01\0-abcdefgh\u{1}ijklmnop\n"), "•••\n", "control characters hide no token");
    assert_eq!(mask_secrets("https:\0//a.example/x?code=secret"), "https://a.example/x?…", "and no query");
    assert_eq!(
        mask_secrets("Login successful. Press Enter (internationalisation)"),
        "Login successful. Press Enter (internationalisation)"
    );
}

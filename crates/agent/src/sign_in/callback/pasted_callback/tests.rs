//! Forms in which people bring a callback back.

use super::*;

const SIGN_IN: &str = "https://auth.example/oauth/authorize?client_id=x&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&scope=openid&state=STATE1234";
const QUERY: &str = "code=ac_xx.yy&scope=openid+profile+offline_access&state=STATE1234";

fn find(text: &str) -> Result<Option<String>, CallbackError> {
    find_callback(text, &["https://auth.example/z-opaque", SIGN_IN], Some("/auth/callback"))
}

fn callback(query: &str) -> String {
    format!("http://localhost:1455/auth/callback?{query}")
}

#[test]
fn r04_each_form_of_a_callback_is_found_with_its_query_unchanged() {
    let whole = callback(QUERY);
    let escaped = whole.replace('&', "&amp;");
    let (start, end) = whole.split_at(60);
    for text in [
        whole.clone(),
        whole.replace("http:", "https:"),
        whole.replace("http:", "HTTP:").replace("localhost", "LocalHost"),
        whole.replace("http://", ""),
        whole.replace("http:", ""),
        whole.replace("localhost", "127.0.0.1"),
        whole.replace("localhost", "[::1]"),
        whole.replace("localhost", "toybox"),
        whole.replace("http://localhost", "https://my-laptop.local"),
        format!("/auth/callback?{QUERY}"),
        format!("?{QUERY}"),
        QUERY.to_owned(),
        format!("&{QUERY}"),
        format!("#{QUERY}"),
        format!("  {whole}  "),
        format!("\n{whole}\r\n"),
        format!("{start}\n{end}"),
        format!("{start}\r\n  {end}"),
        format!("{start} {end}"),
        whole.replace('&', " &"),
        whole.replace("/auth", "/ auth"),
        format!("\"{whole}\""),
        format!("'{whole}'"),
        format!("`{whole}`"),
        format!("“{whole}”"),
        format!("„{whole}“"),
        format!("«{whole}»"),
        format!("<{whole}>"),
        format!("({whole})"),
        format!("[{whole}]({whole})"),
        format!("<a href=\"{escaped}\">{escaped}</a>"),
        format!("{whole}."),
        format!("{whole}),"),
        format!("{whole}#"),
        format!("{whole}#_=_"),
        format!("\u{feff}{whole}\u{200b}"),
        escaped.clone(),
        escaped.replace("&amp;", "&amp;amp;"),
        whole.replace('&', "&#38;"),
        whole.replace('&', "&#x26;").replace('=', "&equals;"),
        format!("&lt;{escaped}&gt;"),
        format!("{whole}{whole}"),
        format!("{whole} {whole}"),
        format!("{whole}\n{whole}"),
        format!("{QUERY} {QUERY}"),
        format!("?{QUERY}?{QUERY}"),
        format!("{}{}", whole.replace("http://", ""), whole.replace("http://", "")),
        format!("It ended at {whole} and nothing loaded"),
        format!("URL: {whole}"),
        format!("view-source:{whole}"),
        format!("This site can't be reached\n{whole}\nERR_CONNECTION_REFUSED"),
        whole.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D").replace('&', "%26"),
    ] {
        assert_eq!(find(&text).unwrap().as_deref(), Some(whole.as_str()), "{text:?}");
    }
    for query in [
        "state=STATE1234&code=a%2fB+c&scope=email%20https://www.example/auth/userinfo.email&authuser=0",
        "error=access_denied&error_description=no&state=STATE1234",
        "code=1&state=STATE123%34",
    ] {
        let whole = callback(query);
        assert_eq!(find(&whole).unwrap(), Some(whole.clone()));
        assert_eq!(find(&format!("<{whole}>")).unwrap(), Some(whole));
    }
}

#[test]
fn r04_a_callback_of_another_sign_in_is_refused_in_each_form() {
    for text in [
        callback("code=a&state=OTHER"),
        callback("code=a"),
        "?code=a&state=OTHER".to_owned(),
        "code=a&state=OTHER".to_owned(),
        "code=a".to_owned(),
        "https://localhost:1455/auth/callback?code=a&state=OTHER".to_owned(),
        "http://localhost:9/auth/callback?code=a&state=STATE1234".to_owned(),
        "https://localhost:1455/other?code=a&state=STATE1234".to_owned(),
        "localhost:1455/other?code=a&state=STATE1234".to_owned(),
        "http://localhost:1455/success".to_owned(),
    ] {
        assert!(matches!(find(&text), Err(CallbackError::Mismatch(_))), "{text}: {:?}", find(&text));
    }
    let remote = "https://auth.example/authorize?redirect_uri=https%3A%2F%2Fauth.example%2Fcode&state=STATE1234";
    let at_loopback = find_callback(&callback(QUERY), &[remote], None);
    assert!(matches!(at_loopback, Err(CallbackError::NotExpected)), "{at_loopback:?}");
}

#[test]
fn r04_other_texts_have_no_callback() {
    for text in [
        "ac_xxxxxxxx.yyyyyyyy",
        "my code is 1234",
        SIGN_IN,
        "https://auth.example/log-in",
        "https://auth.example/code/callback?code=a&state=STATE1234",
        "sk-abc",
        "1455",
        "?",
        "code",
        "about:blank",
    ] {
        assert_eq!(find(text).unwrap(), None, "{text}");
    }
}

#[test]
fn callbacks_without_a_path_or_with_the_usual_port_are_found() {
    let at = |uri: &str| format!("https://auth.example/authorize?redirect_uri={uri}&state=S");
    for (uri, text, expected) in [
        (
            "http%3A%2F%2F127.0.0.1%3A4000",
            "http://127.0.0.1:4000/?code=1&state=S",
            "http://127.0.0.1:4000/?code=1&state=S",
        ),
        ("http%3A%2F%2F127.0.0.1%3A4000%2F", "localhost:4000?code=1&state=S", "http://127.0.0.1:4000/?code=1&state=S"),
        ("http%3A%2F%2Flocalhost%2Fcb", "https://localhost/cb?code=1&state=S", "http://localhost/cb?code=1&state=S"),
        ("http%3A%2F%2Flocalhost%2Fcb", "localhost/cb?code=1&state=S", "http://localhost/cb?code=1&state=S"),
    ] {
        assert_eq!(find_callback(text, &[&at(uri)], None).unwrap().as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn r04_the_address_of_the_sign_in_page_is_recognised() {
    for text in [
        SIGN_IN,
        &SIGN_IN.replace("https://", ""),
        &format!("<{SIGN_IN}>"),
        &SIGN_IN.replace('&', "&amp;"),
        &SIGN_IN.replace("&scope", "\n&scope"),
        "https://auth.example/log-in",
        "https://auth.example/u/login?state=abc",
        "https://AUTH.example/oauth/authorize?client_id=other",
        "https://auth.example/authorize?code=true&client_id=1",
    ] {
        assert!(is_sign_in_page(text, &[SIGN_IN]), "{text}");
    }
    for text in [
        "https://auth.example/code/callback?code=a&state=STATE1234",
        "https://other.example/log-in",
        "auth.example",
        "4/0AbCd",
        "abc#def",
        "",
    ] {
        assert!(!is_sign_in_page(text, &[SIGN_IN]), "{text}");
    }
}

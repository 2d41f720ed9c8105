//! The pages: encodings and caching of their files, redirects, and the pages for addresses where nothing is.

use crate::{start_idle, start_idle_session};
use anteroom_testbed::{TestServer, WAIT_MAX};
use reqwest::{Client, Method, Response, header, redirect::Policy};
use serde_json::Value;
use std::{collections::HashSet, io::Read};

/// What Chromium sends when a person opens an address.
const PERSON: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const START: &str = "/dashboard/remote-cli";
const NO_SESSION: &str = "ses_00000000000000000000000000";

struct Browser<'a> {
    client: Client,
    server: &'a TestServer,
}

impl<'a> Browser<'a> {
    fn new(server: &'a TestServer) -> Self {
        Self {
            client: Client::builder().no_proxy().timeout(WAIT_MAX).redirect(Policy::none()).build().unwrap(),
            server,
        }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.server.address().unwrap()));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        self.send(Method::GET, path, headers).await
    }

    /// Addresses of the files to which a page refers.
    async fn files_of(&self, page: &str) -> Vec<String> {
        let html = self.get(page, &[]).await.text().await.unwrap();
        let files = html.split('"').filter(|text| text.starts_with("/assets/")).map(str::to_owned);
        files.collect()
    }
}

fn value(response: &Response, name: header::HeaderName) -> String {
    let values = response.headers().get_all(name).into_iter().map(|value| value.to_str().unwrap().to_owned());
    values.collect::<Vec<_>>().join(", ")
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

#[tokio::test]
async fn files_are_sent_in_the_encoding_that_the_client_prefers_each_with_its_etag() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    let files = browser.files_of(START).await;
    let script = files.iter().find(|file| file.ends_with(".js")).expect("the pages are built");
    let style = files.iter().find(|file| file.ends_with(".css")).unwrap();
    for path in [START, "/login", script, style] {
        let plain = browser.get(path, &[]).await;
        assert_eq!(value(&plain, header::CONTENT_ENCODING), "", "{path}");
        let (kind, caching) = (value(&plain, header::CONTENT_TYPE), value(&plain, header::CACHE_CONTROL));
        let expected_kind =
            [("js", "text/javascript"), ("css", "text/css")].into_iter().find(|(ending, _)| path.ends_with(ending));
        assert_eq!(kind, format!("{}; charset=utf-8", expected_kind.map_or("text/html", |(_, kind)| kind)), "{path}");
        let plain = plain.bytes().await.unwrap();
        let is_page = !path.starts_with("/assets/");
        let vary = if is_page { "accept-encoding, accept-language, cookie" } else { "accept-encoding" };
        let mut etags = HashSet::new();
        for (accepted, expected) in [
            ("identity", ""),
            ("gzip, deflate, br, zstd", "br"),
            ("gzip", "gzip"),
            ("br;q=0, gzip;q=0.1", "gzip"),
            ("br;q=0.1, gzip;q=0.9", "gzip"),
            ("br;q=0.5, identity;q=0.9", ""),
            ("identity;q=0, *", "br"),
            ("br;q=0, gzip;q=0", ""),
            ("deflate", ""),
        ] {
            let case = format!("{path} {accepted}");
            let found = browser.get(path, &[(header::ACCEPT_ENCODING, accepted)]).await;
            assert_eq!(
                (found.status().as_u16(), value(&found, header::CONTENT_ENCODING)),
                (200, expected.to_owned()),
                "{case}"
            );
            assert_eq!(value(&found, header::VARY).to_lowercase(), vary, "{case}");
            assert_eq!(value(&found, header::CONTENT_TYPE), kind, "{case}");
            assert_eq!(value(&found, header::CACHE_CONTROL), caching, "{case}");
            let etag = value(&found, header::ETAG);
            etags.insert((expected, etag.clone()));
            let bytes = found.bytes().await.unwrap();
            match expected {
                "" => assert_eq!(bytes, plain, "{case}"),
                "gzip" => assert_eq!(gunzip(&bytes), plain, "{case}"),
                other => {
                    assert!(bytes.len() * 3 < plain.len() * 2, "{case} {other}: {} of {}", bytes.len(), plain.len())
                }
            }
            for known in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
                let headers = [(header::ACCEPT_ENCODING, accepted), (header::IF_NONE_MATCH, known.as_str())];
                let again = browser.get(path, &headers).await;
                assert_eq!(
                    (again.status().as_u16(), value(&again, header::ETAG)),
                    (304, etag.clone()),
                    "{case} {known}"
                );
                assert_eq!(value(&again, header::VARY).to_lowercase(), vary, "{case}");
                assert_eq!(value(&again, header::CACHE_CONTROL), caching, "{case}");
            }
        }
        assert_eq!(etags.len(), 3, "one ETag for each encoding: {etags:?}");
        assert_eq!(etags.iter().map(|(_, etag)| etag).collect::<HashSet<_>>().len(), 3, "{etags:?}");
        let refused = browser.get(path, &[(header::ACCEPT_ENCODING, "identity;q=0")]).await;
        assert_eq!(refused.status(), 406, "{path}");
    }
    for compressed in [format!("{script}.br"), format!("{script}.gz"), "/assets/../index.html".to_owned()] {
        assert_eq!(browser.get(&compressed, &[]).await.status().as_u16() / 100, 4, "{compressed} has no address");
    }
    server.stop_and_check_leaks().await.unwrap();
}

/// The language in which a page says that it is.
fn language_of(html: &str) -> Option<&str> {
    html.split_once("<html lang=\"")?.1.split('"').next()
}

#[tokio::test]
async fn pages_and_error_pages_are_sent_in_the_persons_language() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    let desktop = format!("/api/auth/session/{NO_SESSION}/novnc");
    for path in [START, "/", "/dashboard/remote-cli/auth", "/login", "/sign-in/callback", desktop.as_str(), "/missing"]
    {
        for (accepted, cookie, expected) in [
            ("en-GB,en;q=0.9,de;q=0.8", "", "en"),
            ("de-DE,de;q=0.9,en;q=0.8", "", "de"),
            ("fr", "", "en"),
            ("de-DE", "anteroom_language=en", "en"),
            ("en", "anteroom_language=de", "de"),
        ] {
            let headers = [(header::ACCEPT, PERSON), (header::ACCEPT_LANGUAGE, accepted), (header::COOKIE, cookie)];
            let page = browser.get(path, &headers).await;
            let vary = value(&page, header::VARY).to_lowercase();
            assert!(vary.contains("accept-language") && vary.contains("cookie"), "{path}: {vary}");
            let html = page.text().await.unwrap();
            assert_eq!(language_of(&html), Some(expected), "{path} {accepted} {cookie}");
            let german_texts = html.contains("/assets/de-");
            assert_eq!(german_texts, expected == "de" && path != "/missing", "{path}: the texts are requested at once");
        }
    }
    let admin = browser.get("/admin", &[(header::ACCEPT_LANGUAGE, "de")]).await.text().await.unwrap();
    assert_eq!(language_of(&admin), Some("en"), "the operators' pages are in English");
    server.stop_and_check_leaks().await.unwrap();
}

/// Bytes of pages as they are sent, with all files that their HTML names.
#[tokio::test]
async fn each_page_needs_at_most_40_kb_before_a_lane_opens_and_the_desktop_110() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    let desktop = format!("/api/auth/session/{NO_SESSION}/novnc");
    for (page, bytes_max) in [
        (START, 40_000),
        ("/dashboard/remote-cli/auth", 40_000),
        ("/login", 40_000),
        ("/sign-in/callback", 40_000),
        (desktop.as_str(), 110_000),
    ] {
        let mut files = browser.files_of(page).await;
        files.push(page.to_owned());
        let mut bytes = 0;
        for file in &files {
            let found = browser.get(file, &[(header::ACCEPT_ENCODING, "gzip, deflate, br, zstd")]).await;
            assert_eq!(
                (found.status().as_u16(), value(&found, header::CONTENT_ENCODING)),
                (200, "br".to_owned()),
                "{file}"
            );
            bytes += found.bytes().await.unwrap().len();
        }
        assert!((5_000..=bytes_max).contains(&bytes), "{page}: {bytes} bytes: {files:?}");
        assert!(
            files.iter().all(|file| page == desktop || !file.contains("rfb") && !file.contains("terminal")),
            "{files:?}"
        );
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn heads_of_files_have_the_headers_of_the_files() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    let accepted = [(header::ACCEPT_ENCODING, "br")];
    for path in [START.to_owned(), browser.files_of(START).await.remove(0)] {
        let (got, head) = (browser.get(&path, &accepted).await, browser.send(Method::HEAD, &path, &accepted).await);
        for name in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::ETAG, header::VARY]
        {
            assert_eq!(value(&got, name.clone()), value(&head, name.clone()), "{path} {name}");
        }
        assert_eq!(head.bytes().await.unwrap().len(), 0);
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn responses_are_compressed_only_if_they_have_no_secret() {
    let (_flags, server, _, id) = start_idle_session("").await;
    let browser = Browser::new(&server);
    let token = format!("Bearer {}", server.operator_token().expose());
    let headers = [(header::AUTHORIZATION, token.as_str()), (header::ACCEPT_ENCODING, "gzip, br")];
    for path in ["/openapi.json", "/api/providers", "/metrics"] {
        let found = browser.get(path, &headers).await;
        assert_eq!(
            (found.status().as_u16(), value(&found, header::CONTENT_ENCODING)),
            (200, "gzip".to_owned()),
            "{path}"
        );
        assert!(!gunzip(&found.bytes().await.unwrap()).is_empty(), "{path}");
    }
    let document: Value = browser.get("/openapi.json", &[]).await.json().await.unwrap();
    let mut answered = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if ["/api/providers", "/metrics"].contains(&path.as_str()) {
            continue;
        }
        let path = path.replace("{id}", id.as_str());
        let methods = methods.as_object().unwrap().keys().map(|method| method.to_uppercase());
        for method in methods.filter(|method| method == "GET") {
            let found = browser.send(method.parse().unwrap(), &path, &headers).await;
            assert_eq!(value(&found, header::CONTENT_ENCODING), "", "{path}");
            answered += usize::from(found.status().is_success());
        }
    }
    assert!(answered > 10, "{answered}");
    // These reveal secrets.
    for path in ["/api/links".to_owned(), format!("/api/auth/session/{id}/ticket"), "/api/login".to_owned()] {
        let found = browser.send(Method::POST, &path, &headers).await;
        assert_eq!(value(&found, header::CONTENT_ENCODING), "", "{path}");
    }
    let stream = [headers[0].clone(), headers[1].clone(), (header::ACCEPT, "text/event-stream")];
    let stream = browser.get(&format!("/api/auth/session/{id}/events"), &stream).await;
    assert_eq!((stream.status().as_u16(), value(&stream, header::CONTENT_ENCODING)), (200, String::new()));
    drop(stream);
    server.stop_and_check_leaks().await.unwrap();
}

/// Checks that an answer is a page of ours, and returns its title.
async fn title_of(case: &str, response: Response) -> String {
    assert_eq!(value(&response, header::CONTENT_TYPE), "text/html; charset=utf-8", "{case}");
    assert!(value(&response, header::CONTENT_SECURITY_POLICY).contains("script-src 'self'"), "{case}");
    assert_eq!(value(&response, header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{case}");
    assert_eq!(value(&response, header::CACHE_CONTROL), "no-store", "{case}");
    assert!(value(&response, header::VARY).to_lowercase().contains("accept"), "{case}");
    let html = response.text().await.unwrap();
    for part in ["<html lang=\"en\">", "<header", "<main", "<h1>", "<meta name=\"viewport\""] {
        assert!(html.contains(part), "{case}: no {part}: {html}");
    }
    for part in ["<script", "<style", "style=", "onclick", "anteroom serve", "openapi", "problem"] {
        assert!(!html.contains(part), "{case}: {part} in {html}");
    }
    let title = html.split_once("<h1>").unwrap().1.split_once("</h1>").unwrap().0;
    title.to_owned()
}

#[tokio::test]
async fn people_get_a_page_wherever_nothing_is_and_programs_a_problem_document() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    let nothing = "There is nothing here";
    let long = format!("/{}", "x".repeat(4_000));
    for (method, path, status, title) in [
        (Method::GET, "/nothing", 404, nothing),
        (Method::GET, "/dashboard/nothing", 404, nothing),
        (Method::GET, "/DASHBOARD/remote-cli", 404, nothing),
        (Method::GET, "/dashboard%2Fremote-cli", 404, nothing),
        (Method::GET, "//dashboard/remote-cli", 404, nothing),
        (Method::GET, "/%FF%00", 404, nothing),
        (Method::GET, "/login.php?<script>alert(1)</script>", 404, nothing),
        (Method::GET, "/s/ses_1", 404, nothing),
        (Method::GET, "/apix", 404, nothing),
        (Method::GET, "/index.html", 404, nothing),
        (Method::GET, &long, 404, nothing),
        (Method::GET, "/assets/nothing.js", 404, nothing),
        (Method::GET, "/metrics", 401, "You are not signed in"),
        (Method::POST, "/login", 405, nothing),
        (Method::DELETE, START, 405, nothing),
        (Method::POST, "/nothing", 404, nothing),
    ] {
        let case = format!("{method} {path}");
        let found = browser.send(method.clone(), path, &[(header::ACCEPT, PERSON)]).await;
        assert_eq!(found.status(), status, "{case}");
        assert_eq!(title_of(&case, found).await, title, "{case}");
        for accepted in ["*/*", "application/json", "application/problem+json", "image/avif,*/*;q=0.8"] {
            let found = browser.send(method.clone(), path, &[(header::ACCEPT, accepted)]).await;
            // Without a caller, an address that does not exist is not distinguished from one that needs a caller.
            assert!([status, 401].contains(&found.status().as_u16()), "{case} {accepted}: {}", found.status());
            let problem: Value = found.json().await.unwrap();
            assert!(problem["code"].is_string() && problem["remedy"].is_string(), "{case} {accepted}: {problem}");
        }
    }
    let head = browser.send(Method::HEAD, "/nothing", &[(header::ACCEPT, PERSON)]).await;
    assert_eq!(
        (head.status().as_u16(), value(&head, header::CONTENT_TYPE)),
        (404, "text/html; charset=utf-8".to_owned())
    );
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let encoded = [(header::ACCEPT, PERSON), (header::ACCEPT_ENCODING, "gzip")];
    let encoded = browser.get("/nothing", &encoded).await;
    assert_eq!((encoded.status().as_u16(), value(&encoded, header::CONTENT_ENCODING)), (404, "gzip".to_owned()));
    assert!(String::from_utf8(gunzip(&encoded.bytes().await.unwrap())).unwrap().contains(nothing));
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn addresses_of_the_api_are_never_answered_with_a_page() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    for (method, path) in [
        (Method::GET, "/api".to_owned()),
        (Method::GET, "/api/".to_owned()),
        (Method::GET, "/api/nothing".to_owned()),
        (Method::GET, "/api/sessions".to_owned()),
        (Method::GET, format!("/api/auth/session/{NO_SESSION}")),
        (Method::GET, format!("/api/auth/session/{NO_SESSION}/novnc/websock")),
        (Method::POST, "/api/login".to_owned()),
        (Method::PUT, "/api/sessions".to_owned()),
    ] {
        let found = browser.send(method.clone(), &path, &[(header::ACCEPT, PERSON)]).await;
        assert!(found.status().is_client_error(), "{method} {path}: {}", found.status());
        assert_eq!(value(&found, header::CONTENT_TYPE), "application/problem+json", "{method} {path}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn known_addresses_with_a_slash_too_many_lead_to_the_page_and_no_address_leads_to_another_host() {
    let (_flags, server) = start_idle("").await;
    let browser = Browser::new(&server);
    for (path, status, location) in [
        ("/dashboard", 307, START),
        ("/dashboard/", 307, START),
        ("/dashboard/remote-cli/", 308, START),
        ("/dashboard/remote-cli/auth/?session=a&view=1", 308, "/dashboard/remote-cli/auth?session=a&view=1"),
        ("/login/", 308, "/login"),
        ("/sign-in/callback/?code=a%2Fb&state=c", 308, "/sign-in/callback?code=a%2Fb&state=c"),
        ("/login/?//evil.example/", 308, "/login?//evil.example/"),
    ] {
        let found = browser.get(path, &[(header::ACCEPT, PERSON)]).await;
        assert_eq!((found.status().as_u16(), value(&found, header::LOCATION)), (status, location.to_owned()), "{path}");
        assert_eq!(browser.get(location, &[]).await.status(), 200, "{path}");
    }
    for path in ["//evil.example/", "//evil.example", "/\\evil.example/", "/dashboard//evil.example/", "/login//"] {
        let found = browser.get(path, &[(header::ACCEPT, PERSON)]).await;
        assert_eq!((found.status().as_u16(), value(&found, header::LOCATION)), (404, String::new()), "{path}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn people_get_a_page_at_another_host_name_and_above_a_rate() {
    let (_flags, server) = start_idle("[limits.rates.read]\nper_s = 1\nburst = 3\n").await;
    let browser = Browser::new(&server);
    let elsewhere = [(header::ACCEPT, PERSON), (header::HOST, "other.example")];
    let found = browser.get(START, &elsewhere).await;
    assert_eq!(found.status(), 421);
    assert_eq!(title_of("another host", found).await, "This is not the server's address");
    let found = browser.get(START, &elsewhere[1..]).await;
    assert_eq!(found.json::<Value>().await.unwrap()["code"], "wrong_host");
    let desktop = format!("/api/auth/session/{NO_SESSION}/novnc");
    for path in [START, desktop.as_str()] {
        let limited = loop {
            let found = browser.get(path, &[(header::ACCEPT, PERSON)]).await;
            if found.status() != 200 {
                break found;
            }
        };
        assert_eq!(limited.status(), 429, "{path}");
        assert_ne!(value(&limited, header::RETRY_AFTER), "", "{path}");
        assert_eq!(title_of(path, limited).await, "Too many requests");
    }
    server.stop_and_check_leaks().await.unwrap();
}

//! What HTTP clients expect of an API: problem details, headers, methods, repeats, versions.

use crate::{clients::start_demo, tools::project};
use anteroom_testbed::TestServer;
use reqwest::{Client, Method, RequestBuilder, Response, header};
use serde_json::{Value, json};

struct Api {
    server: TestServer,
    client: Client,
}

impl Api {
    async fn start() -> Self {
        Self { server: start_demo("").await, client: Client::builder().no_proxy().build().unwrap() }
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.server.address().unwrap());
        let token = self.server.backend_tokens()[0].expose();
        self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url).bearer_auth(token)
    }

    async fn send(&self, method: &str, path: &str) -> Response {
        self.request(method, path).send().await.unwrap()
    }

    async fn start_session(&self, key: Option<&str>, body: &Value) -> Response {
        let request = self.request("POST", "/api/auth/start").json(body);
        let request = if let Some(key) = key { request.header("Idempotency-Key", key) } else { request };
        request.send().await.unwrap()
    }

    async fn finish(self) {
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn errors_are_problem_details_and_name_their_request() {
    let api = Api::start().await;
    let answer = api.send("GET", "/api/auth/session/ses_00000000000000000000000000").await;
    assert_eq!(header(&answer, "content-type"), "application/problem+json");
    let request = header(&answer, "x-request-id");
    let body = json_of(answer).await;
    assert_eq!(body["type"], "urn:anteroom:problem:unknown_session");
    assert_eq!((&body["status"], &body["code"]), (&json!(404), &json!("unknown_session")));
    assert_eq!(body["instance"], format!("urn:anteroom:request:{request}"));
    assert_eq!(body["title"], body["sentence"]);
    assert!(body["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    let stranger =
        api.client.get(format!("http://{}/api/sessions", api.server.address().unwrap())).send().await.unwrap();
    assert_eq!((stranger.status().as_u16(), header(&stranger, "www-authenticate").as_str()), (401, "Bearer"));
    // The access log has the request.
    let log = std::fs::read_to_string(api.server.state_dir().join("log/anteroom.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines
        .filter(|line| line["target"] == "anteroom_access")
        .find(|line| line["request"] == request.as_str())
        .unwrap();
    assert_eq!((&line["status"], &line["route"]), (&json!(404), &json!("/api/auth/session/{id}")));
    api.finish().await;
}

#[tokio::test]
async fn methods_queries_and_tags_are_those_of_http() {
    let api = Api::start().await;
    for method in ["OPTIONS", "PUT"] {
        let answer = api.send(method, "/api/sessions").await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "allow").as_str()),
            (if method == "PUT" { 405 } else { 204 }, "GET, HEAD, OPTIONS")
        );
    }
    let unknown = api.send("GET", "/api/sessions?limit=1&foo=bar").await;
    assert_eq!(unknown.status(), 400);
    let detail = json_of(unknown).await["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("foo") && detail.contains("limit"), "{detail}");
    assert_eq!(api.send("GET", "/api/providers?x").await.status(), 400);
    let known = api.send("GET", "/api/providers").await;
    let tag = header(&known, "etag");
    let same = api.request("GET", "/api/providers").header("If-None-Match", &tag).send().await.unwrap();
    assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, tag));
    for (path, expected) in
        [("/api/v1/sessions", 200), ("/api/v1/me", 200), ("/api/v2/me", 404), ("/api/v1/sessions?x=1", 400)]
    {
        let answer = api.send("GET", path).await;
        assert_eq!(answer.status().as_u16(), expected, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
    let metrics = api.server.operator_client().unwrap().get("/metrics").await.unwrap().text;
    let line = "anteroom_http_request_duration_seconds_count{method=\"GET\",route=\"/api/me\",status=\"2xx\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    api.finish().await;
}

/// Every operation of the document, with ids of nothing, and the example of its body.
fn operations_on_nothing() -> Vec<(String, String, Value)> {
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(project().join("web/openapi.json")).unwrap()).unwrap();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let id = match path.split('/').nth(2).unwrap_or_default() {
            "credentials" => "crd_00000000000000000000000000",
            "tokens" | "browsers" => "cal_00000000000000000000000000",
            "webhook" => "msg_00000000000000000000000000",
            "hosts" => "hst_00000000000000000000000000",
            "keys" => "4000000000",
            _ => "ses_00000000000000000000000000",
        };
        let path = path.replace("{id}", id).replace("{helper}", "cal_00000000000000000000000000");
        for (method, operation) in methods.as_object().unwrap() {
            let body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let schema = body.map(|schema| document.pointer(schema.trim_start_matches('#')).unwrap());
            let example = schema.map_or(json!({}), |schema| schema["examples"][0].clone());
            found.push((method.to_uppercase(), path.clone(), example));
        }
    }
    found
}

#[tokio::test]
async fn no_operation_takes_an_unknown_query_parameter_or_mistakes_what_is_not_there_for_a_malformed_request() {
    let api = Api::start().await;
    let send = async |method: &str, path: &str, body: &Value| {
        let url = format!("http://{}{path}", api.server.address().unwrap());
        let request = api.client.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        request.bearer_auth(api.server.operator_token().expose()).json(body).send().await.unwrap()
    };
    let mut of_things = 0;
    for (method, path, body) in operations_on_nothing() {
        let answer = send(&method, &format!("{path}?unknown_parameter=1"), &body).await;
        assert_eq!(answer.status(), 400, "{method} {path}");
        let detail = json_of(answer).await["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("unknown_parameter"), "{method} {path}: {detail}");
        // A browser is the caller's own or another's, whether or not it exists; sockets need a handshake first.
        let is_other = ["/api/browsers/", "/terminal", "/websock", "/exec"].iter().any(|part| path.contains(part));
        if path.contains("_0000") || path.contains("/4000000000/") {
            of_things += 1;
            let answer = send(&method, &path, &body).await;
            assert!(is_other || answer.status() == 404, "{method} {path}: {}", answer.text().await.unwrap());
        }
    }
    assert!(of_things > 25, "{of_things} operations");
    // A page, its files and this document are no operations.
    for path in ["/", "/login?utm_source=mail", "/openapi.json?v=2"] {
        assert_eq!(send("GET", path, &json!({})).await.status(), 200, "{path}");
    }
    api.finish().await;
}

#[tokio::test]
async fn whole_numbers_may_have_a_fraction_of_zero_and_a_token_is_no_browser() {
    let api = Api::start().await;
    let operator = api.server.operator_client().unwrap();
    for (expires_in_s, expected) in [(json!(3600.0), 201), (json!(3600.5), 400), (json!(-1.0), 400), (json!("1"), 400)]
    {
        let body = json!({ "name": format!("lives {expires_in_s}"), "expires_in_s": expires_in_s });
        let answer = operator.post("/api/tokens", body).await.unwrap();
        assert_eq!(answer.status, expected, "{expires_in_s}: {}", answer.text);
    }
    let refused = operator.post("/api/logout", json!({})).await.unwrap();
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (403, "not_a_browser"));
    api.finish().await;
}

#[tokio::test]
async fn a_repeated_start_returns_the_same_session_and_an_ended_stream_says_so() {
    let api = Api::start().await;
    let body = json!({ "provider": "demo", "method": "api_key" });
    let first = api.start_session(Some("\"one\""), &body).await;
    let path = header(&first, header::LOCATION.as_str());
    let id = json_of(first).await["session"]["id"].as_str().unwrap().to_owned();
    assert_eq!(path, format!("/api/auth/session/{id}"));
    let again =
        api.start_session(None, &json!({ "provider": "demo", "method": "api_key", "idempotency_key": "one" })).await;
    assert_eq!(json_of(again).await["session"]["id"], id.as_str());
    let different = json!({ "provider": "demo", "method": "api_key", "idempotency_key": "two" });
    assert_eq!(api.start_session(Some("one"), &different).await.status(), 400);
    assert_eq!(api.start_session(Some("one"), &json!({ "provider": "demo", "method": "link" })).await.status(), 409);
    assert_eq!(api.send("POST", &format!("{path}/cancel")).await.status(), 200);
    let events = format!("{path}/events");
    let stream = |after: &str| {
        api.request("GET", &events).header("accept", "text/event-stream").header("last-event-id", after).send()
    };
    let all = stream("0").await.unwrap();
    assert_eq!(all.status(), 200);
    let text = all.text().await.unwrap();
    assert!(text.starts_with("retry: 1000\n"), "{text}");
    // Entries about the machine's end may follow.
    api.server.wait_machines_removed().await.unwrap();
    let entries = json_of(api.send("GET", &events).await).await["entries"].as_array().unwrap().clone();
    let last = entries.last().unwrap()["number"].to_string();
    assert_eq!(stream(&last).await.unwrap().status(), 204);
    api.finish().await;
}

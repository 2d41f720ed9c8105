//! What operators see of the whole server: sums, filters, pages and the live stream of sessions. A scripted mix of 40 sessions.

use crate::{Flags, metrics::samples};
use anteroom_testbed::{ApiClient, Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{CredentialList, Overview, RefusedHostList, SessionList, SessionStatus, StartRequest, StartStage},
    api_tokens::TokenList,
    diagnosis::Verdict,
};
use reqwest::{Method, Response};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

const UNREACHABLE: &str = "login.example:443";
const DENIED: &str = "tracker.example:8443";
/// Denied as well. Every Chromium asks for it.
const CHROMIUMS_OWN: &str = "update.googleapis.com:443";

/// Four tools: one signs in, one too after it asked for a host that is denied, one cannot reach its host, one waits.
fn providers(flags: &Flags) -> Vec<ScriptedProvider> {
    let credential = || Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"x\"}");
    let connect = |authority: &str| Step::ProxyConnect { authority: authority.to_owned() };
    vec![
        ScriptedProvider::new("quick", Script::new([credential()])),
        ScriptedProvider::new("curious", Script::new([connect(DENIED), connect(CHROMIUMS_OWN), credential()])),
        ScriptedProvider::new("blocked", Script::new([connect(UNREACHABLE), Step::Exit { code: 1 }]))
            .with_egress("login.example", 443),
        flags.idle_provider(),
    ]
}

/// A server with a mix of sessions: 12 and 4 completed, 6 without egress, 8 cancelled, 4 with a killed machine, 4 live, 2 queued.
struct Mix {
    _flags: Flags,
    server: TestServer,
    operator: ApiClient,
    without_egress: Vec<SessionId>,
    live: Vec<SessionId>,
}

async fn start(api: &ApiClient, provider: &str, number: usize) -> SessionId {
    let request = StartRequest { user_id: Some(format!("user-{provider}-{number}")), ..StartRequest::new(provider) };
    api.start_session_with(&request).await.unwrap().session.id
}

async fn start_all(api: &ApiClient, provider: &str, count: usize) -> Vec<SessionId> {
    let mut started = Vec::new();
    for number in 0..count {
        started.push(start(api, provider, number).await);
    }
    started
}

fn replace_setting(server: &TestServer, before: &str, after: &str) {
    let config = server.path().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains(before), "{text}");
    std::fs::write(config, text.replace(before, after)).unwrap();
}

impl Mix {
    async fn start() -> Self {
        let flags = Flags::new();
        // A port without a listener: it was free a moment ago.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = "[sessions]\nidle_s_max = 5\nrestarts_max = 0\n[machines]\nmachines_max = 6\n\
             [limits.sessions]\nreconcile_every_ms = 50\n";
        let config = TestConfig::with_providers(providers(&flags))
            .with_settings(settings)
            .with_host_override(UNREACHABLE, closed);
        let mut server = TestServer::start(config).await.unwrap();
        let api = server.backend_client().unwrap();
        let without_egress = start_all(&api, "blocked", 6).await;
        for id in &without_egress {
            api.wait_status(id, SessionStatus::Expired).await.unwrap();
        }
        server.stop_server().await.unwrap();
        replace_setting(&server, "idle_s_max = 5", "idle_s_max = 600");
        replace_setting(&server, "machines_max = 6", "machines_max = 4");
        server.start_server().await.unwrap();
        let (api, other) = (server.backend_client().unwrap(), server.other_backend_client().unwrap());
        for (caller, provider, count) in [(&api, "quick", 12), (&other, "curious", 4)] {
            for id in start_all(caller, provider, count).await {
                caller.wait_status(&id, SessionStatus::Completed).await.unwrap();
            }
        }
        for id in start_all(&api, "scripted", 8).await {
            api.cancel_session(&id).await.unwrap();
        }
        for number in 0..4 {
            server.wait_machines_removed().await.unwrap();
            let id = start(&api, "scripted", number).await;
            api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
            server.kill_machine(&server.list_machines().remove(0)).unwrap();
            api.wait_status(&id, SessionStatus::Failed).await.unwrap();
        }
        server.wait_machines_removed().await.unwrap();
        let live = start_all(&api, "scripted", 6).await;
        for id in &live[..4] {
            api.wait_entry(id, TimelineKind::CliStarted).await.unwrap();
        }
        for id in &live[4..] {
            api.wait_until(id, "queued", |view| view.queue_position.is_some()).await.unwrap();
        }
        let operator = server.operator_client().unwrap();
        Self { _flags: flags, server, operator, without_egress, live }
    }

    async fn list(&self, query: &str) -> SessionList {
        self.operator.get(&format!("/api/sessions?{query}")).await.unwrap().parse().unwrap()
    }

    async fn ids(&self, query: &str) -> BTreeSet<SessionId> {
        let list = self.list(query).await;
        let ids: BTreeSet<_> = list.sessions.iter().map(|session| session.id.clone()).collect();
        assert_eq!(ids.len(), list.sessions.len());
        ids
    }

    async fn overview(&self) -> Overview {
        self.operator.get("/api/overview").await.unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn sums_and_filters_match_a_scripted_mix_of_sessions() {
    let mix = Mix::start().await;
    let overview = settled_overview(&mix).await;
    let outcomes = overview.outcomes;
    assert_eq!((outcomes.completed, outcomes.failed, outcomes.cancelled, outcomes.expired), (16, 4, 8, 6));
    assert_eq!((overview.live.sessions, overview.live.queued), (6, 2));
    assert_eq!((overview.host.machines, overview.host.machines_max), (4, 4));
    let causes: Vec<_> = overview.causes.iter().map(|cause| (cause.verdict, cause.sessions)).collect();
    assert_eq!(causes, [(Verdict::Cancelled, 8), (Verdict::EgressUnreachable, 6), (Verdict::MachineKilled, 4)]);
    check_starts(&mix, &overview).await;
    check_hosts(&mix, &overview).await;
    check_filters(&mix).await;
    check_pages(&mix).await;
    check_roles(&mix).await;
    mix.server.stop_and_check_leaks().await.unwrap();
}

/// The overview, when the last machine's end is on its session's timeline.
async fn settled_overview(mix: &Mix) -> Overview {
    let settled = async || {
        let overview = mix.overview().await;
        Ok((overview.causes.len() == 3 && overview.host.machines == 4).then_some(overview))
    };
    eventually("three causes", WAIT_MAX, settled).await.unwrap()
}

async fn check_starts(mix: &Mix, overview: &Overview) {
    let of = |stage| overview.starts.iter().find(|found| found.stage == stage).unwrap();
    let total = of(StartStage::Total);
    // Sessions that were cancelled at once may have had a machine, too.
    assert!((30..=38).contains(&total.starts), "{total:?}");
    assert!(0 < total.p50_ms && total.p50_ms <= total.p95_ms, "{total:?}");
    for stage in [StartStage::Queue, StartStage::Process, StartStage::Channel, StartStage::Agent, StartStage::Desktop] {
        assert_eq!(of(stage).starts, total.starts, "{stage:?}");
        assert!(of(stage).p95_ms <= total.p95_ms.max(of(StartStage::Queue).p95_ms), "{stage:?}");
    }
    let in_history: u64 = overview.start_history.iter().map(|interval| interval.starts).sum();
    assert_eq!(in_history, total.starts);
    let metrics = samples(&mix.operator.get("/metrics").await.unwrap().text);
    // The server was restarted after the first six sessions.
    let counted = metrics["anteroom_start_duration_seconds_count{stage=\"total\"}"];
    assert!((24.0..=32.0).contains(&counted), "{counted}");
    assert_eq!(metrics["anteroom_start_duration_seconds_bucket{le=\"+Inf\",stage=\"total\"}"], counted);
}

async fn check_hosts(mix: &Mix, overview: &Overview) {
    let list: RefusedHostList = mix.operator.get("/api/egress/refused").await.unwrap().parse().unwrap();
    assert_eq!(list.hosts, overview.refused_hosts);
    let found: Vec<_> =
        list.hosts.iter().map(|host| (host.host.as_str(), host.port, host.reason.as_str(), host.sessions)).collect();
    let expected = [
        ("login.example", 443, "egress_unreachable", 6),
        ("tracker.example", 8443, "egress_denied", 4),
        // Chromium requests it of its own accord, but here a tool asked.
        ("update.googleapis.com", 443, "egress_denied", 4),
    ];
    assert_eq!(found, expected);
    assert_eq!(list.hosts[0].descriptor_change, None, "it is allowed");
    let change: toml::Table = list.hosts[1].descriptor_change.as_ref().unwrap().parse().unwrap();
    let rule = change["providers"]["curious"]["egress"].as_array().unwrap().last().unwrap();
    assert_eq!((rule["host"].as_str(), rule["ports"][0].as_integer()), (Some("tracker.example"), Some(8443)));
}

async fn check_filters(mix: &Mix) {
    let without_egress: BTreeSet<_> = mix.without_egress.iter().cloned().collect();
    let live: BTreeSet<_> = mix.live.iter().cloned().collect();
    assert_eq!(mix.ids("verdict=egress_unreachable").await, without_egress);
    assert_eq!(mix.ids("state=active").await, live);
    let hour_ago = anteroom_controller::unix_time::now_unix_ms() - 3_600_000;
    assert_eq!(mix.ids(&format!("state=expired&provider=blocked&since_ms={hour_ago}")).await, without_egress);
    assert_eq!(mix.ids(&format!("until_ms={hour_ago}")).await.len(), 0);
    let part_of_id = format!("text={}", &mix.live[3].as_str()[10..]);
    for (query, count) in [
        ("state=ended", 34),
        ("state=completed", 16),
        ("state=failed", 4),
        ("state=cancelled&verdict=cancelled", 8),
        ("provider=curious", 4),
        ("user=user-quick-7", 1),
        ("text=USER-QUICK-1", 3),
        ("text=100%25", 0),
        ("text=egress_x", 0),
        ("text=machine_failed", 4),
        (part_of_id.as_str(), 1),
        ("verdict=machine_killed&state=active", 0),
    ] {
        assert_eq!(mix.ids(query).await.len(), count, "{query}");
    }
    let tokens: TokenList = mix.operator.get("/api/tokens").await.unwrap().parse().unwrap();
    let mut counts = BTreeSet::new();
    for backend in tokens.tokens.iter().filter(|token| token.role == "backend") {
        counts.insert(mix.ids(&format!("caller={}", backend.id)).await.len());
        assert_eq!(
            mix.ids(&format!("caller={}", backend.name.replace(' ', "%20"))).await.len(),
            40,
            "both have this name"
        );
    }
    assert_eq!(counts, BTreeSet::from([4, 36]));
    let count_credentials = async |query: &str| {
        let answer = mix.operator.get(&format!("/api/credentials{query}")).await.unwrap();
        answer.parse::<CredentialList>().unwrap().credentials.len()
    };
    let (mut by_id, mut by_name) = (0, BTreeSet::new());
    for backend in tokens.tokens.iter().filter(|token| token.role == "backend") {
        by_id += count_credentials(&format!("?caller={}", backend.id)).await;
        by_name.insert(count_credentials(&format!("?caller={}", backend.name.replace(' ', "%20"))).await);
    }
    assert_eq!((by_id, by_name), (16, BTreeSet::from([16])), "both have this name");
    assert_eq!((count_credentials("").await, count_credentials("?caller=unknown").await), (16, 0));
    assert_eq!(mix.operator.get("/api/credentials?colour=red").await.unwrap().status, 400);
    for malformed in [
        "state=asleep",
        "verdict=bad_luck",
        "cursor=x",
        "before=x",
        "count=maybe",
        "count=true&verdict=cancelled",
        "limit=many",
        "colour=red",
    ] {
        let answer = mix.operator.get(&format!("/api/sessions?{malformed}")).await.unwrap();
        assert_eq!((answer.status, answer.problem().unwrap().code.as_str()), (400, "malformed"), "{malformed}");
    }
}

async fn check_pages(mix: &Mix) {
    for (filter, limit, total) in [("", 7, 40), ("state=ended", 10, 34), ("verdict=cancelled", 3, 8)] {
        let (mut found, mut before) = (Vec::new(), String::new());
        loop {
            let page = mix.list(&format!("{filter}&limit={limit}&include=verdict{before}")).await;
            assert!(page.sessions.len() <= limit);
            for session in &page.sessions {
                assert_eq!(page.verdicts.contains_key(&session.id), session.status.is_ended(), "{session:?}");
            }
            found.extend(page.sessions.into_iter().map(|session| session.id));
            let Some(next) = page.next_cursor else { break };
            before = format!("&cursor={next}");
        }
        assert_eq!(found.len(), total, "{filter}");
        assert!(found.is_sorted_by(|newer, older| newer > older), "newest first, each once: {filter}");
    }
}

async fn check_roles(mix: &Mix) {
    let created = mix.operator.post("/api/tokens", json!({ "name": "reads", "role": "auditor" })).await.unwrap();
    let secret: serde_json::Value = created.parse().unwrap();
    let secret = anteroom_wire::Secret::new(secret["secret"].as_str().unwrap().to_owned());
    let auditor = mix.server.client_with_token(&secret).unwrap();
    let backend = mix.server.backend_client().unwrap();
    for path in ["/api/overview", "/api/egress/refused"] {
        for (client, status) in [(&backend, 403), (&auditor, 403), (&mix.server.anonymous_client().unwrap(), 401)] {
            assert_eq!(client.get(path).await.unwrap().status, status, "{path}");
        }
    }
    assert_eq!(auditor.get("/api/sessions").await.unwrap().status, 403);
    assert_eq!(auditor.get("/api/audit").await.unwrap().status, 200);
    let own: SessionList =
        mix.server.other_backend_client().unwrap().get("/api/sessions").await.unwrap().parse().unwrap();
    assert_eq!(own.sessions.len(), 4, "a backend lists its own sessions");
}

/// The events of a stream.
struct Events {
    response: Response,
    text: String,
}

/// One event: its name, its id and its data.
type Event = (String, u64, serde_json::Value);

impl Events {
    async fn open(server: &TestServer, token: &anteroom_wire::Secret, last_event_id: Option<u64>) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/api/sessions/events", server.address().unwrap());
        let mut request =
            client.request(Method::GET, url).bearer_auth(token.expose()).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let parsed = field("event:").map(|name| {
                    let id = field("id:").unwrap().parse().unwrap();
                    (name.to_owned(), id, serde_json::from_str(field("data:").unwrap()).unwrap())
                });
                self.text = rest.to_owned();
                // Without a name it only keeps the connection alive.
                if let Some(parsed) = parsed {
                    return parsed;
                }
                continue;
            }
            let chunk = timeout(WAIT_MAX, self.response.chunk()).await.expect("an event in time").unwrap();
            self.text.push_str(std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap());
        }
    }

    /// The next event about this session with this status.
    async fn wait_status(&mut self, session: &SessionId, status: &str) -> u64 {
        loop {
            let (name, id, data) = self.next().await;
            assert_eq!(name, "session");
            if data["id"] == session.as_str() && data["status"] == status {
                return id;
            }
        }
    }
}

#[tokio::test]
async fn stream_of_all_sessions_resumes_after_the_last_event_and_shows_a_caller_only_its_own() {
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.idle_provider());
    let mut server = TestServer::start(config).await.unwrap();
    let tokens = [server.operator_token().clone(), server.backend_tokens()[1].clone()];
    let mut operator = Events::open(&server, &tokens[0], None).await;
    let (name, first_id, _) = operator.next().await;
    assert_eq!(name, "reset");
    let mut stranger = Events::open(&server, &tokens[1], None).await;
    assert_eq!(stranger.next().await.0, "reset");
    let api = server.backend_client().unwrap();
    let session = start(&api, "scripted", 1).await;
    let ready_id = operator.wait_status(&session, "vm_started").await;
    assert!(ready_id > first_id);
    api.cancel_session(&session).await.unwrap();
    operator.wait_status(&session, "cancelled").await;
    let mut resumed = Events::open(&server, &tokens[0], Some(first_id)).await;
    let (name, _, data) = resumed.next().await;
    assert_eq!(
        (name.as_str(), &data["id"], &data["status"]),
        ("session", &json!(session.as_str()), &json!("cancelled"))
    );
    let own = start(&server.other_backend_client().unwrap(), "scripted", 1).await;
    let (name, _, data) = stranger.next().await;
    assert_eq!((name.as_str(), &data["id"]), ("session", &json!(own.as_str())), "no session of another caller");
    server.other_backend_client().unwrap().cancel_session(&own).await.unwrap();
    server.stop_server().await.unwrap();
    server.start_server().await.unwrap();
    let mut after_restart = Events::open(&server, &tokens[0], Some(ready_id)).await;
    assert_eq!(after_restart.next().await.0, "reset", "what changed while the server was away is not known");
    server.stop_and_check_leaks().await.unwrap();
}

#[tokio::test]
async fn streams_of_all_sessions_are_limited_and_end_with_their_caller() {
    let (_flags, server) = crate::start_idle("").await;
    let operator = server.operator_client().unwrap();
    let created = operator.post("/api/tokens", json!({ "name": "watches", "role": "backend" })).await.unwrap();
    let created: serde_json::Value = created.parse().unwrap();
    let token = anteroom_wire::Secret::new(created["secret"].as_str().unwrap().to_owned());
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Events::open(&server, &token, None).await);
    }
    let refused = server.client_with_token(&token).unwrap().get("/api/sessions/events").await.unwrap();
    assert_eq!((refused.status, refused.problem().unwrap().code.as_str()), (429, "too_many_streams"));
    let path = format!("/api/tokens/{}/revoke", created["token"]["id"].as_str().unwrap());
    assert_eq!(operator.post(&path, json!({})).await.unwrap().status, 200);
    for mut stream in streams {
        assert_eq!(stream.next().await.0, "reset");
        let rest = timeout(Duration::from_secs(60), async {
            let mut rest = String::new();
            while let Some(chunk) = stream.response.chunk().await.unwrap() {
                rest.push_str(std::str::from_utf8(&chunk).unwrap());
            }
            rest
        });
        assert!(rest.await.unwrap().contains("event: closed"));
    }
    server.stop_and_check_leaks().await.unwrap();
}

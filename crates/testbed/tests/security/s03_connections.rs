//! Many connections and slow ones.

use crate::{
    idle_session::Idle,
    raw_http::{RawConnection, head, status},
};
use anteroom_testbed::{TestServer, WAIT_MAX, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

const SHORT: &str = "[limits.connections]\nhead_ms_max = 1000\nstranger_idle_ms_max = 1000\nidle_ms_max = 1500\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// More than may be open from one address, fewer than this process may open.
const MANY: usize = 600;

async fn open_many(server: &TestServer, bytes: &[u8]) -> Vec<RawConnection> {
    let mut connections = Vec::new();
    for _ in 0..MANY {
        connections.push(RawConnection::send_new(server, bytes).await);
    }
    connections
}

#[tokio::test]
async fn s03_silent_connections_and_slow_heads_are_closed_in_time() {
    let idle = Idle::start(SHORT).await;
    for (case, bytes) in
        [("nothing", ""), ("a letter of the preface", "P"), ("half a head", "GET / HTTP/1.1\r\nHost: x\r\n")]
    {
        let mut connection = RawConnection::send_new(&idle.server, bytes).await;
        assert_eq!(connection.read_to_end().await, b"", "{case}");
    }
    // One byte at a time gives no more time for the head.
    let mut connection = RawConnection::send_new(&idle.server, "GET / HTTP/1.1\r\n").await;
    let closed = async || {
        connection.send("X-a: b\r\n").await;
        Ok(connection.is_closed().await.then_some(()))
    };
    eventually("the connection is closed", WAIT_MAX, closed).await.unwrap();
    idle.finish().await;
}

#[tokio::test]
async fn s03_connections_without_a_request_are_closed_in_time() {
    let idle = Idle::start(SHORT).await;
    for lines in [String::new(), idle.operator_line()] {
        let mut connection = RawConnection::send_new(&idle.server, head(&idle.server, "GET /health", &lines)).await;
        assert_eq!(connection.read_response().await.unwrap().0, 200);
        assert_eq!(connection.read_to_end().await, b"");
    }
    idle.finish().await;
}

#[tokio::test]
async fn s03_requests_are_answered_while_one_address_opens_hundreds_of_connections() {
    let idle = Idle::start("").await;
    let read = head(&idle.server, &format!("GET {}", idle.path()), &idle.operator_line());
    let mut kept = RawConnection::send_new(&idle.server, &read).await;
    assert_eq!(kept.read_response().await.unwrap().0, 200);
    for bytes in [&b""[..], b"GET / HTTP/1.1\r\n", PREFACE] {
        let mut connections = open_many(&idle.server, bytes).await;
        for path in [idle.path(), "/health".to_owned(), "/".to_owned()] {
            let mut new = RawConnection::send_new(
                &idle.server,
                head(&idle.server, &format!("GET {path}"), &idle.operator_line()),
            )
            .await;
            assert_eq!(status(&new.read_head().await.expect("an answer")), 200, "{path}");
        }
        let mut stranger = RawConnection::send_new(&idle.server, head(&idle.server, "GET /health", "")).await;
        assert_eq!(stranger.read_response().await.expect("an answer").0, 200);
        let mut closed = 0;
        for connection in &mut connections {
            closed += usize::from(connection.is_closed().await);
        }
        assert!(closed >= MANY - 128, "{closed} of {MANY} were closed");
        kept.send(&read).await;
        assert_eq!(kept.read_response().await.expect("a caller's connection is not closed for strangers").0, 200);
    }
    idle.finish().await;
}

#[tokio::test]
async fn s03_connection_is_refused_with_503_while_all_others_of_its_address_are_busy() {
    let limits = "[limits.connections]\nstrangers_by_address_max = 2\nstranger_request_ms_min = 600000\n";
    let idle = Idle::start(limits).await;
    let lines = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    let half_body = head(&idle.server, "POST /api/login", lines) + "{\"login_token\": \"";
    let mut busy = Vec::new();
    for _ in 0..2 {
        busy.push(RawConnection::send_new(&idle.server, &half_body).await);
    }
    let refused = loop {
        // A connection counts as busy when its head has been read.
        let mut new =
            RawConnection::send_new(&idle.server, head(&idle.server, "GET /health", "Connection: close\r\n")).await;
        let answer = String::from_utf8(new.read_to_end().await).unwrap();
        if status(&answer) != 200 {
            break answer;
        }
        busy.push(RawConnection::send_new(&idle.server, &half_body).await);
    };
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(refused.contains("too_many_connections") && refused.to_lowercase().contains("retry-after: "), "{refused}");
    let person = head(&idle.server, "GET /login", "Accept: text/html,*/*;q=0.8\r\n");
    let page = RawConnection::send_new(&idle.server, person).await.read_to_end().await;
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status(&page), 503, "{page}");
    assert!(page.contains("text/html") && page.contains("<h1>The server is busy</h1>"), "a person gets a page: {page}");
    drop(busy);
    loop {
        let mut new =
            RawConnection::send_new(&idle.server, head(&idle.server, "GET /health", "Connection: close\r\n")).await;
        if status(&String::from_utf8(new.read_to_end().await).unwrap()) == 200 {
            break;
        }
    }
    idle.finish().await;
}

#[tokio::test]
async fn s03_callers_connect_while_requests_of_strangers_from_many_addresses_have_all_connections_that_they_may_have() {
    let limits = "[limits.connections]\nstrangers_max = 16\nstranger_request_ms_min = 600000\n";
    let idle = Idle::start(limits).await;
    let lines = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    let half_body = head(&idle.server, "POST /api/login", lines) + "{\"login_token\": \"";
    let read = head(&idle.server, &format!("GET {}", idle.path()), &idle.operator_line());
    let mut strangers = Vec::new();
    for number in 0..40_u8 {
        let mut stranger = RawConnection::open_from(&idle.server, 2 + number % 10).await;
        stranger.send(&half_body).await;
        strangers.push(stranger);
        let mut caller = RawConnection::send_new(&idle.server, &read).await;
        let head = caller.read_head().await.expect("an answer");
        assert_eq!(status(&head), 200, "after {number} requests of strangers: {head}");
    }
    let three_quarters_are_held = async {
        loop {
            let mut held = 0;
            for stranger in &mut strangers {
                held += usize::from(!stranger.is_closed().await && !stranger.has_received());
            }
            if held == 12 {
                break;
            }
        }
    };
    timeout(WAIT_MAX, three_quarters_are_held).await.expect("twelve of sixteen are held");
    idle.finish().await;
}

#[tokio::test]
async fn s03_http2_with_prior_knowledge_is_refused_by_name_unless_the_setting_permits_it() {
    for (settings, refused) in [("", true), ("[http]\nhttp2 = true\n", false)] {
        let idle = Idle::start(&format!("{settings}{SHORT}")).await;
        let mut connection = RawConnection::send_new(&idle.server, PREFACE).await;
        let answer = connection.read_to_end().await;
        let first_frame_is_settings = answer.get(3) == Some(&4);
        assert!(first_frame_is_settings, "{answer:?}");
        let is_goaway = String::from_utf8_lossy(&answer).contains("use HTTP/1.1");
        assert_eq!(is_goaway, refused, "{answer:?}");
        idle.finish().await;
    }
}

#[tokio::test]
async fn s03_limit_of_open_files_is_raised_to_its_hard_limit() {
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(512), maximum: own.maximum }).unwrap();
    let idle = Idle::start("").await;
    let pid = idle.server.server_pid().unwrap().as_raw_nonzero();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_ne!(files[3], "512");
    assert_eq!(files[3], files[4]);
    idle.finish().await;
    setrlimit(Resource::Nofile, own).unwrap();
}

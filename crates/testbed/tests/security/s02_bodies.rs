//! Bodies of clients without a valid token.

use crate::{
    hostile_agent::{HostileAgent, TOKEN},
    idle_session::Idle,
    raw_http::{RawConnection, head, peak_resident_kib, resident_kib},
};
use anteroom_testbed::WAIT_MAX;
use anteroom_wire::Secret;
use serde_json::json;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn s02_bodies_of_strangers_are_not_held_and_401_is_answered_before_the_body_is_read() {
    let idle = Idle::start("").await;
    let lines = format!("Content-Type: application/json\r\nContent-Length: {MIB}\r\n");
    let paths = ["/api/auth/credentials/store", "/api/agent/events", "/api/auth/start", "/api/links"];
    for path in paths {
        for token in ["", "Authorization: Bearer agt_guessed\r\n"] {
            // Not a byte of the body was sent when the answer arrives.
            let request = head(&idle.server, &format!("POST {path}"), &format!("{lines}{token}"));
            let mut connection = RawConnection::send_new(&idle.server, request).await;
            assert_eq!(connection.read_response().await.expect("an answer").0, 401, "{path} {token}");
        }
    }
    let before = resident_kib(&idle.server);
    let request = head(&idle.server, "POST /api/auth/credentials/store", &lines);
    let body = vec![b'x'; MIB - 1];
    let mut connections = Vec::new();
    for _ in 0..400 {
        let mut connection = RawConnection::send_new(&idle.server, &request).await;
        connection.send(&body).await;
        connections.push(connection);
    }
    let grown_kib = resident_kib(&idle.server).saturating_sub(before);
    assert!(grown_kib < 64 * 1_024, "400 bodies of strangers took {} MiB", grown_kib / 1_024);
    assert_eq!(idle.api.get(&idle.path()).await.unwrap().status, 200);
    idle.finish().await;
}

#[tokio::test]
async fn s02_login_of_a_stranger_is_limited_in_bytes_and_time() {
    let idle = Idle::start("[limits.http]\nbody_ms_max = 1000\nbody_bytes_per_s_min = 1000000\n").await;
    let post = |length: usize| {
        head(
            &idle.server,
            "POST /api/login",
            &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        )
    };
    let mut large = RawConnection::send_new(&idle.server, post(5_000) + &"x".repeat(5_000)).await;
    assert_eq!(large.read_response().await.expect("an answer").0, 413);
    let mut slow = RawConnection::send_new(&idle.server, post(1_000) + "{").await;
    let (status, body) = slow.read_response().await.expect("an answer");
    assert_eq!(status, 408, "{body}");
    assert!(body.contains("request_timeout"), "{body}");
    idle.finish().await;
}

#[tokio::test]
async fn s02_refusal_before_the_body_was_read_announces_that_the_connection_closes() {
    let idle = Idle::start("").await;
    let lines = "Content-Type: application/json\r\nContent-Length: 100\r\n";
    let with_token = format!("{lines}{}", idle.operator_line());
    let cases = [
        ("POST /api/auth/start", lines),
        ("POST /api/no-such-route", lines),
        ("PUT /api/auth/start", lines),
        ("POST /api/no-such-route", &with_token),
        ("POST /api/auth/session/ses_00000000000000000000000000/cancel", &with_token),
    ];
    for (request_line, lines) in cases {
        let mut connection = RawConnection::send_new(&idle.server, head(&idle.server, request_line, lines)).await;
        let response = connection.read_head().await.expect("an answer").to_lowercase();
        assert!(response.contains("\r\nconnection: close\r\n"), "{request_line}: {response}");
        connection.send("x".repeat(100)).await;
        connection.read_to_end().await;
    }
    // With a body that arrives with the request, the connection stays open.
    for (request_line, lines) in cases {
        let mut connection = RawConnection::open(&idle.server).await;
        for _ in 0..2 {
            connection.send(head(&idle.server, request_line, lines) + &"x".repeat(100)).await;
            let response = connection.read_head().await.expect("the connection is open").to_lowercase();
            assert!(!response.contains("\r\nconnection: close\r\n"), "{request_line}: {response}");
            connection.read_body_of(&response).await;
        }
    }
    idle.finish().await;
}

#[tokio::test]
async fn s02_known_callers_body_must_arrive_in_time_too() {
    let idle = Idle::start("[limits.http]\nbody_ms_max = 1000\nbody_bytes_per_s_min = 1000000\n").await;
    let lines = format!("{}Content-Type: application/json\r\nContent-Length: 60000\r\n", idle.operator_line());
    let mut slow =
        RawConnection::send_new(&idle.server, head(&idle.server, "POST /api/auth/start", &lines) + "{").await;
    assert_eq!(slow.read_response().await.expect("an answer").0, 408);
    idle.finish().await;
}

#[tokio::test]
async fn s02_bytes_of_strangers_are_limited_together() {
    let idle = Idle::start("[limits.http]\nstranger_bytes_max = 5000\n").await;
    let request = head(&idle.server, "POST /api/login", "Content-Type: application/json\r\nContent-Length: 4000\r\n");
    let mut first = RawConnection::send_new(&idle.server, request.clone() + &"x".repeat(3_999)).await;
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let mut second = RawConnection::send_new(&idle.server, request.clone() + &"x".repeat(4_000)).await;
        let (status, body) = second.read_response().await.expect("an answer");
        if status == 503 {
            assert!(body.contains("too_many_connections"), "{body}");
            break;
        }
        // The server has not read the first body yet, or the attempts come too fast.
        assert!([400, 429].contains(&status) && tokio::time::Instant::now() < deadline, "{status} {body}");
    }
    first.send("x").await;
    assert_eq!(first.read_response().await.expect("an answer").0, 400, "the first one's bytes were held");
    let mut third = RawConnection::send_new(&idle.server, request.clone() + &"x".repeat(4_000)).await;
    assert_eq!(third.read_response().await.expect("an answer").0, 400, "they were released");
    idle.finish().await;
}

#[tokio::test]
async fn s02_body_in_tiny_chunks_is_refused_and_takes_no_more_memory_than_its_bytes() {
    let (agent, _) = HostileAgent::start("").await;
    let lines = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    let head = head(&agent.server, "POST /api/agent/events", &format!("{lines}Transfer-Encoding: chunked\r\n"));
    let body = "1\r\nx\r\n".repeat(512 * 1024) + "0\r\n\r\n";
    let before = resident_kib(&agent.server);
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(RawConnection::send_new(&agent.server, format!("{head}{body}")).await);
    }
    for connection in &mut connections {
        let (status, body) = connection.read_response().await.expect("an answer");
        assert!(status == 400 && body.contains("small pieces"), "{status} {body}");
    }
    let grown_kib = peak_resident_kib(&agent.server).saturating_sub(before);
    assert!(grown_kib < 24 * 1_024, "three bodies of half a MiB took {} MiB", grown_kib / 1_024);
    agent.end().await;
}

#[tokio::test]
async fn s02_bytes_of_one_caller_are_limited_and_those_of_others_and_of_agents_count_apart() {
    let limits = "[limits.http]\ncaller_bytes_max = 5000\nstranger_bytes_max = 5000\n";
    let (agent, _) = HostileAgent::start(limits).await;
    let [first, second] = agent.server.backend_tokens() else { panic!("two backends") };
    let request = |token: &Secret, length: usize| {
        let lines = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", token.expose());
        let head = head(&agent.server, "POST /api/auth/start", &format!("{lines}Content-Length: 4000\r\n"));
        head + &"x".repeat(length)
    };
    let mut held = RawConnection::send_new(&agent.server, request(first, 3_999)).await;
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    loop {
        let mut next = RawConnection::send_new(&agent.server, request(first, 4_000)).await;
        let (status, body) = next.read_response().await.expect("an answer");
        if status == 503 {
            assert!(body.contains("too_many_connections"), "{body}");
            break;
        }
        // The server has not read the first body yet.
        assert!(status == 400 && tokio::time::Instant::now() < deadline, "{status} {body}");
    }
    let mut other = RawConnection::send_new(&agent.server, request(second, 4_000)).await;
    assert_eq!(other.read_response().await.expect("an answer").0, 400, "another caller's bytes");
    let event = json!({ "kind": "candidate_rejected", "path": "p".repeat(10_000), "why": "y" });
    assert_eq!(agent.send(vec![event]).await, 204, "an agent's bytes");
    held.send("x").await;
    assert_eq!(held.read_response().await.expect("an answer").0, 400);
    agent.end().await;
}

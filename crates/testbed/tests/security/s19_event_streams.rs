//! Many event streams.

use crate::{
    idle_session::Idle,
    raw_http::{RawConnection, head, status},
};
use anteroom_testbed::{WAIT_MAX, eventually};

/// Event streams of one session that one caller may have open (docs/limits.md).
const BY_CALLER_MAX: usize = 8;

async fn open(idle: &Idle, caller: &str) -> (u16, RawConnection) {
    let lines = format!("{caller}Accept: text/event-stream\r\nConnection: close\r\n");
    let request = head(&idle.server, &format!("GET {}/events", idle.path()), &lines);
    let mut stream = RawConnection::send_new(&idle.server, request).await;
    let head = stream.read_head().await.expect("an answer");
    (status(&head), stream)
}

#[tokio::test]
async fn s19_event_streams_of_a_caller_are_limited_and_a_closed_one_makes_place() {
    let idle = Idle::start("").await;
    let mut streams = Vec::new();
    loop {
        let (status, mut stream) = open(&idle, &idle.operator_line()).await;
        if status != 200 {
            let refused = String::from_utf8(stream.read_to_end().await).unwrap();
            assert_eq!(status, 429, "{refused}");
            assert!(refused.contains("too_many_streams"), "{refused}");
            break;
        }
        streams.push(stream);
        assert!(streams.len() <= BY_CALLER_MAX);
    }
    assert_eq!(streams.len(), BY_CALLER_MAX);
    assert_eq!(idle.api.get(&idle.path()).await.unwrap().status, 200, "status reads are another class");
    streams.clear();
    let again = async || Ok((open(&idle, &idle.operator_line()).await.0 == 200).then_some(()));
    eventually("closed streams make place", WAIT_MAX, again).await.unwrap();
    idle.finish().await;
}

#[tokio::test]
async fn s19_every_stream_of_a_session_gets_every_entry_and_the_end() {
    let idle = Idle::start("").await;
    let (_, mut first) = open(&idle, &idle.operator_line()).await;
    let (_, mut second) = open(&idle, &idle.operator_line()).await;
    idle.api.cancel_session(&idle.session).await.unwrap();
    let entries = idle.api.get_timeline(&idle.session).await.unwrap();
    for stream in [&mut first, &mut second] {
        let text = String::from_utf8(stream.read_to_end().await).unwrap();
        for entry in &entries {
            assert!(text.contains(&format!("id: {}\n", entry.number)), "{} is not in {text}", entry.number);
        }
        let last_view = text.rfind("event: session").map(|at| &text[at..]).unwrap();
        assert!(last_view.contains("\"status\":\"cancelled\""), "{last_view}");
    }
    idle.finish().await;
}

//! What persons, helpers and backends read of a session has no fact of the host.

use crate::{browser_client::Browser, helper_access::admit, helper_invitations::start};
use anteroom_testbed::{
    TestServer,
    processes::{find_machine_pid, kill_process},
};
use anteroom_wire::TimelineKind;
use reqwest::Method;

async fn text_of(reader: &Browser, path: &str, accept: &str) -> String {
    let response = reader.request(Method::GET, path).header("accept", accept).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.unwrap()
}

fn require_none(server: &TestServer, pids: &[i32], what: &str, text: &str) {
    let state_dir = server.state_dir().display().to_string();
    let facts = [state_dir.as_str(), "\"receipt\"", "console_tail", "\"pids\"", ".sock", "127.0.0.1:"];
    let found = facts.iter().find(|fact| text.contains(**fact));
    assert_eq!(found, None, "{what}: {text}");
    for pid in pids {
        assert!(!text.contains(&format!("[{pid}")) && !text.contains(&format!("pid {pid}")), "{what}: {text}");
    }
}

#[tokio::test]
async fn no_fact_of_the_host_reaches_persons_helpers_and_backends() {
    let (_dir, server, started, person) = start().await;
    let (api, operator) = (server.backend_client().unwrap(), server.operator_client().unwrap());
    let id = &started.session.id;
    let session = format!("/api/auth/session/{id}");
    let helper = admit(&server, &person, &session, "Grace", "b").await;
    let machine = server.list_machines().remove(0);
    let process = find_machine_pid(&server.state_dir(), &machine).unwrap();
    let pids = [process.as_raw_nonzero().get()];
    kill_process(process).unwrap();
    operator.wait_entry(id, TimelineKind::MachineRemoved).await.unwrap();
    let diagnosis = format!("{session}/diagnosis");
    for (who, reader) in [("the person", &person), ("a helper", &helper)] {
        for path in [&format!("{session}/events"), &session, &diagnosis, "/health"] {
            require_none(&server, &pids, who, &text_of(reader, path, "application/json").await);
        }
    }
    for path in [&format!("{session}/events"), &session, &diagnosis] {
        require_none(&server, &pids, "the backend", &api.get(path).await.unwrap().text);
    }
    api.cancel_session(id).await.unwrap();
    // The stream ends with the session, so that its text is complete.
    let stream = text_of(&person, &format!("{session}/events"), "text/event-stream").await;
    assert!(stream.contains("machine_removed"), "{stream}");
    require_none(&server, &pids, "the person's stream", &stream);
    let removed = operator.wait_entry(id, TimelineKind::MachineRemoved).await.unwrap();
    assert!(removed.data["receipt"]["checks"].is_object(), "operators read the receipt: {removed:?}");
    server.stop_and_check_leaks().await.unwrap();
}

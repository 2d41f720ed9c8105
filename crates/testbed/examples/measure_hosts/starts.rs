//! Sessions a second on one and on three hosts, with machines that run for a fixed time.

use crate::own_server::OwnServer;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer};
use anteroom_wire::api::SessionStatus;
use std::{path::Path, time::Instant};

/// How long each tool runs, milliseconds. The processors are idle in that time, so that the hosts do not share what they have.
const TOOL_MS: u64 = 4_000;
const MACHINES_MAX: usize = 3;
/// Sessions for each machine.
const SESSIONS: usize = 6;
const ROUNDS: usize = 3;

pub(super) async fn measure() -> anyhow::Result<()> {
    for _ in 0..ROUNDS {
        let (one, three) = (sessions_a_second(1).await?, sessions_a_second(3).await?);
        println!("sessions a second: {one:.2} on one host, {three:.2} on three, ratio {:.2}", three / one);
    }
    Ok(())
}

async fn sessions_a_second(count: usize) -> anyhow::Result<f64> {
    let (postgres, files) = (OwnServer::start(&[]).await, tempfile::tempdir()?);
    let mut servers = Vec::new();
    for number in 0..count {
        servers.push(start_host(&postgres, files.path(), number).await?);
    }
    let token = servers[0].backend_tokens()[0].clone();
    let (began, mut sessions) = (Instant::now(), Vec::new());
    for number in 0..count * MACHINES_MAX * SESSIONS {
        let api = servers[number % count].client_with_token(&token)?.without_response_recording();
        let id = api.start_session("scripted").await?.session.id;
        sessions.push((api, id));
    }
    let started = f64::from(u32::try_from(sessions.len())?);
    for (api, id) in sessions {
        api.wait_status(&id, SessionStatus::Completed).await?;
    }
    let took = began.elapsed();
    for server in servers {
        server.stop_and_check_leaks().await?;
    }
    Ok(started / took.as_secs_f64())
}

async fn start_host(postgres: &OwnServer, files: &Path, number: usize) -> anyhow::Result<TestServer> {
    let steps = [Step::Pause { ms: TOOL_MS }, Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"t\"}")];
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n[vault]\nkey_file = '{}'\n\
         [cluster]\nname = 'test'\nhost_name = 'host-{number}'\npeer_listen = '127.0.0.1:0'\nliveness = 'database'\nheartbeat_interval_ms = 500\n\
         [machines]\nmachines_max = {MACHINES_MAX}\n[sessions]\nqueue_max = 5000\nqueue_by_caller_max = 5000\n\
         [limits.rates]\nstart = {{ per_s = 5000, burst = 5000 }}\n[log]\nlevel = 'info'\n",
        postgres.directory(),
        files.join("vault.key").display()
    );
    let provider = ScriptedProvider::new("scripted", Script::new(steps));
    TestServer::start(TestConfig::with_provider(provider).with_settings(&settings)).await
}

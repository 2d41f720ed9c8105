//! Two hosts of a cluster, and a session that the first one holds.

use super::{desktop, own_server::OwnServer};
use anteroom_server::join_cluster;
use anteroom_testbed::{ApiClient, ScriptedProvider, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{
    HostId, SessionId,
    api::StartRequest,
    hosts::{HostInvitation, HostList, HostState},
};
use anyhow::Context;
use serde_json::json;
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
};

const LIMITS: &str = "[limits.sessions]\nviewers_max = 4000\n[limits.connections]\nknown_max = 8000\nby_caller_max = 8000\n\
    [limits.rates]\nticket = { per_s = 5000, burst = 5000 }\nstart = { per_s = 500, burst = 500 }\n[log]\nlevel = 'info'\n";

/// Sessions for many viewers.
const MORE_SESSIONS: usize = 40;

pub(super) struct Hosts {
    /// The host that holds the session.
    pub(super) first: TestServer,
    pub(super) second: TestServer,
    /// A client of the first host, and one of the second.
    pub(super) owner: ApiClient,
    pub(super) other: ApiClient,
    pub(super) session: SessionId,
    /// More sessions of the first host, for many viewers: a session gives out two tickets a second.
    pub(super) more_sessions: Vec<SessionId>,
    _postgres: OwnServer,
    _files: tempfile::TempDir,
}

impl Hosts {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let (postgres, files) = (OwnServer::start(&[]).await, tempfile::tempdir()?);
        let (address, mut desks) = (desktop::start().await?, String::new());
        for number in 0..=MORE_SESSIONS {
            let token = files.path().join(format!("token{number}"));
            fs::write(&token, format!("the-token-of-the-agent-outside-{number}"))?;
            fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
            let desk = format!(
                "[external_machines.desk{number}]\ndesktop = 'vnc://{address}'\nagent_token_file = {token:?}\n"
            );
            desks.push_str(&desk);
        }
        let first = start_host(&postgres, files.path(), "first", &desks).await?;
        let mut second = start_host(&postgres, files.path(), "second", "").await?;
        let owner = first.operator_client()?.without_response_recording();
        let made: HostInvitation = owner.post("/api/hosts/invitations", json!({})).await?.parse()?;
        let (id, dir) = (host_id(&second)?, second.state_dir());
        second.stop_server().await?;
        join_cluster(made.invitation.expose(), &id, &dir).await?;
        second.start_server().await?;
        let other = second.client_with_token(first.operator_token())?.without_response_recording();
        let all = async || {
            let list: HostList = other.get("/api/hosts").await?.parse()?;
            let found = list.hosts.iter().filter(|host| host.state == HostState::Answers).count();
            Ok((found == 2).then_some(()))
        };
        eventually("both hosts answer each other", WAIT_MAX, all).await?;
        let mut more_sessions = Vec::new();
        for number in 0..=MORE_SESSIONS {
            let request = StartRequest { machine: Some(format!("desk{number}")), ..StartRequest::new("idle") };
            more_sessions.push(owner.start_session_with(&request).await?.session.id);
        }
        let session = more_sessions.remove(0);
        Ok(Self { first, second, owner, other, session, more_sessions, _postgres: postgres, _files: files })
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        for session in [&self.session].into_iter().chain(&self.more_sessions) {
            self.owner.cancel_session(session).await?;
        }
        self.second.stop_and_check_leaks().await?;
        self.first.stop_and_check_leaks().await
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn start_host(postgres: &OwnServer, files: &Path, name: &str, more: &str) -> anyhow::Result<TestServer> {
    let peer = free_address()?;
    let settings = format!(
        "[database]\nurl = 'postgresql://anteroom@/postgres?host={}'\n[vault]\nkey_file = '{}'\n\
         [cluster]\nname = 'test'\nhost_name = '{name}'\npeer_listen = '{peer}'\npeer_url = 'https://{peer}'\nliveness = 'database'\n{LIMITS}{more}",
        postgres.directory(),
        files.join("vault.key").display()
    );
    let mut config = TestConfig::with_provider(ScriptedProvider::idle("idle")).with_settings(&settings);
    config.machines.program = std::env::var_os("ANTEROOM_MEASURED_PROGRAM").map(Into::into);
    TestServer::start(config).await
}

fn host_id(server: &TestServer) -> anyhow::Result<HostId> {
    let file: serde_json::Value = serde_json::from_str(&fs::read_to_string(server.state_dir().join("host.json"))?)?;
    Ok(file["id"].as_str().context("an id")?.parse()?)
}

//! `anteroom host list | invite | join | drain | undrain | remove | fence`: the hosts of a cluster.

use super::{
    client::ApiClient,
    confirm,
    output::{self, one_line},
    print_line,
    progress::Wait,
    table::Table,
    when::when,
};
use anteroom_controller::{cluster, config::Config};
use anteroom_server::{StateDir, join_cluster};
use anteroom_wire::{
    HostId,
    hosts::{HostInvitation, HostList, HostState, HostView},
};
use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use http::Method;
use serde_json::json;
use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

/// Time between two looks at a host that is drained.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The most bytes of an invitation.
const INVITATION_BYTES_MAX: u64 = 4_096;

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// List the hosts of the cluster. Each is asked; one that does not answer within half a second is silent.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print an invitation for a new machine: valid once, for 15 minutes.
    Invite {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Join a cluster with the invitation on standard input: makes this machine's key and gets its certificate. Start the server then.
    Join,
    /// Make a host take no further sessions. Its sessions go on until they end.
    Drain {
        /// The name of the host.
        name: String,
        /// Wait until its sessions have ended, at most this long, seconds. Exits with 1 if some have not.
        #[arg(long, value_name = "SECONDS")]
        deadline: Option<u64>,
    },
    /// Make a host take sessions again.
    Undrain {
        /// The name of the host.
        name: String,
    },
    /// Remove a host that holds no session from the cluster, for good: its certificate counts no more.
    Remove {
        /// The name of the host.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Take the sessions of a dead host away at once, without waiting until other hosts find out.
    Fence {
        /// The name of the host.
        name: String,
        /// You have seen that it is switched off, or that its machines have ended. If they run on, a session has two machines.
        #[arg(long, required = true)]
        i_saw_it_dead: bool,
    },
}

pub(super) async fn run(config: &Config, client: &ApiClient, command: HostCommand) -> anyhow::Result<ExitCode> {
    match command {
        HostCommand::List { json } => list(client, json).await?,
        HostCommand::Invite { json } => invite(client, json).await?,
        HostCommand::Join => join(config).await?,
        HostCommand::Drain { name, deadline } => return drain(client, &name, deadline).await,
        HostCommand::Undrain { name } => {
            let host = find(client, &name).await?;
            client.call::<(), ()>(Method::POST, &format!("/api/hosts/{}/undrain", host.id), None).await?;
            print_line(format_args!("{name} takes sessions again."));
        }
        HostCommand::Remove { name, yes } => {
            let host = find(client, &name).await?;
            confirm::require(&format!("Remove {name} from the cluster for good?"), yes).await?;
            client.call::<(), ()>(Method::DELETE, &format!("/api/hosts/{}", host.id), None).await?;
            print_line(format_args!("{name} is removed."));
        }
        HostCommand::Fence { name, i_saw_it_dead } => {
            let host = find(client, &name).await?;
            let body = json!({ "i_saw_it_dead": i_saw_it_dead });
            let path = format!("/api/hosts/{}/fence", host.id);
            let fenced: serde_json::Value = client.call(Method::POST, &path, Some(&body)).await?;
            print_line(format_args!("{name} is fenced; {} sessions wait for another host.", fenced["sessions"]));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn fetch(client: &ApiClient) -> anyhow::Result<HostList> {
    Ok(client.get("/api/hosts").await?)
}

async fn find(client: &ApiClient, name: &str) -> anyhow::Result<HostView> {
    let list = fetch(client).await?;
    ensure!(list.cluster.is_some(), "this server is alone: it has no section [cluster]");
    let names: Vec<_> = list.hosts.iter().map(|host| host.name.clone()).collect();
    let found = list.hosts.into_iter().find(|host| host.name == name || host.id.as_str() == name);
    found.with_context(|| format!("there is no host {name:?}; there are: {}", names.join(", ")))
}

async fn list(client: &ApiClient, json: bool) -> anyhow::Result<()> {
    let list = fetch(client).await?;
    if json {
        return Ok(output::print_json(&list)?);
    }
    let Some(cluster) = &list.cluster else {
        print_line(format_args!("This server is alone: it has no section [cluster] (docs/cluster.md)."));
        return Ok(());
    };
    print_line(format_args!("Hosts of {}", one_line(cluster)));
    let mut table = Table::new(["name", "state", "sessions", "machines", "version", "zone", "heartbeat", "address"]);
    for host in &list.hosts {
        let dash = || "-".to_owned();
        let machines = host.machines.zip(host.machines_max).map(|(now, most)| format!("{now} of {most}"));
        table.add_row([
            one_line(&host.name),
            state(host, list.own.as_ref()),
            host.sessions.to_string(),
            machines.unwrap_or_else(dash),
            host.version.clone().unwrap_or_else(dash),
            host.zone.clone().unwrap_or_else(dash),
            host.heartbeat_at.as_deref().map_or_else(dash, when),
            host.peer_url.clone().unwrap_or_else(dash),
        ]);
    }
    print_line(table);
    Ok(())
}

fn state(host: &HostView, own: Option<&HostId>) -> String {
    let state = match host.state {
        HostState::Answers if own == Some(&host.id) => "answers (this host)".to_owned(),
        HostState::Answers => "answers".to_owned(),
        HostState::Silent => "silent".to_owned(),
        HostState::Fenced => format!("fenced {}", host.fenced.as_deref().unwrap_or_default()),
    };
    if host.draining { format!("{state}, draining") } else { state }
}

async fn invite(client: &ApiClient, json: bool) -> anyhow::Result<()> {
    let made: HostInvitation = client.call::<(), _>(Method::POST, "/api/hosts/invitations", None).await?;
    if json {
        return Ok(output::print_json(&made)?);
    }
    // Alone on a line of standard output, for a pipe.
    print_line(format_args!("{}", made.invitation.expose()));
    output::print_error_line(format_args!(
        "For the standard input of `anteroom host join` on the new machine: once, within {} minutes.",
        made.expires_in_s / 60
    ));
    Ok(())
}

/// The server could not read the key that another user writes, root too.
fn require_owner(state_dir: &Path) -> anyhow::Result<()> {
    let Ok(owner) = fs::metadata(state_dir).map(|meta| meta.uid()) else { return Ok(()) };
    let own = rustix::process::geteuid().as_raw();
    ensure!(
        owner == own,
        "{} belongs to the user with the number {owner}, with whom the server runs: run this as that user (with the package: \
         `sudo -u anteroom anteroom host join`)",
        state_dir.display()
    );
    Ok(())
}

async fn join(config: &Config) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().lock().take(INVITATION_BYTES_MAX).read_to_string(&mut text).context("the invitation")?;
    ensure!(!text.trim().is_empty(), "give the invitation on standard input: anteroom host join < invitation.txt");
    require_owner(&config.state_dir)?;
    let state = StateDir::lock(&config.state_dir)?;
    let host = cluster::read_or_create_host_id(&state.path)?;
    let joined = join_cluster(&text, &host, &state.path).await?;
    print_line(format_args!("This machine is host {host} of {}.", one_line(&joined.cluster)));
    if config.cluster.name.as_deref() != Some(joined.cluster.as_str()) {
        print_line(format_args!(
            "Set cluster.name = {:?} in its configuration, then start the server.",
            joined.cluster
        ));
    }
    Ok(())
}

async fn drain(client: &ApiClient, name: &str, deadline_s: Option<u64>) -> anyhow::Result<ExitCode> {
    let host = find(client, name).await?;
    client.call::<(), ()>(Method::POST, &format!("/api/hosts/{}/drain", host.id), None).await?;
    let Some(deadline_s) = deadline_s else {
        print_line(format_args!("{name} takes no further sessions; {} go on.", host.sessions));
        return Ok(ExitCode::SUCCESS);
    };
    let (began, wait) = (Instant::now(), Wait::begin("Waiting for the sessions to end…"));
    loop {
        let left = find(client, name).await?.sessions;
        if left == 0 {
            drop(wait);
            print_line(format_args!("{name} holds no session."));
            return Ok(ExitCode::SUCCESS);
        }
        if began.elapsed() >= Duration::from_secs(deadline_s) {
            bail!("{name} still holds {left} sessions; it takes no further ones");
        }
        wait.show(&format!("Waiting for {left} sessions to end"));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

//! The agent itself: its parts, put together the same way in a machine and in a plain process.

use crate::{
    board::Board,
    browser::{self, Browser},
    capture,
    children::Children,
    claim::Owner,
    config::Config,
    display,
    events::Events,
    host::{self, Host},
    log, memory, pane, paste,
    place::Place,
    port::Medium,
    proxy, screen, serve, shim, spare,
    stages::Stages,
    supervisor,
    terminal::{self, Terminal},
    tool::Tool,
    tunnels::Tunnels,
    use_credential::Course,
};
use anteroom_wire::{
    agent::{Hello, PROTOCOL, Stage},
    provider::Provider,
};
use anyhow::Context;
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

/// From the claim until what waits for it begins: the claim's answer goes before.
const CLAIM_ANSWER_MS: u64 = 10;

/// Everything that lives as long as the agent.
pub(crate) struct Agent {
    pub(crate) place: Place,
    pub(crate) children: Children,
    pub(crate) events: Arc<Events>,
    pub(crate) stages: Stages,
    pub(crate) board: Board,
    pub(crate) host: Host,
    /// Where a connection to the display server is kept for the next viewer.
    pub(crate) desk: spare::Desk,
    pub(crate) terminal: Terminal,
    pub(crate) browser: Option<Browser>,
    pub(crate) tunnels: Arc<Tunnels>,
    /// Where programs find the proxy.
    pub(crate) proxy: SocketAddr,
    /// Held while a claim is applied.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    /// Whose machine this is.
    pub(crate) owner: watch::Sender<Option<Arc<Owner>>>,
    /// How the tool's process is steered.
    pub(crate) tool: Tool,
    /// How far the command with a stored credential is.
    pub(crate) used: Course,
    /// Whose turn it is to give the tool something.
    pub(crate) turns: paste::Turns,
    /// The tool's process.
    pub(crate) cli_pid: watch::Sender<Option<u32>>,
    /// What the command of a use had printed when it ended.
    pub(crate) last_words: watch::Sender<Option<Vec<String>>>,
    /// Terminal streams by the controller's name for them.
    pub(crate) views: Mutex<HashMap<String, Weak<OwnedFd>>>,
}

/// The two channels to the controller.
pub(crate) struct Media {
    /// HTTP/2's server is here.
    pub(crate) agent: Medium,
    /// HTTP/2's client is here.
    pub(crate) host: Medium,
}

impl Agent {
    fn new(place: Place, proxy: SocketAddr) -> anyhow::Result<Self> {
        let events = Arc::new(Events::default());
        let browser = Browser::new(&place);
        let mut stages = Vec::new();
        if place.rfb_socket.is_some() {
            stages.push(Stage::Display);
        }
        if place.is_machine() {
            stages.push(Stage::WindowManager);
        }
        stages.push(Stage::Terminal);
        if browser.is_some() {
            stages.push(Stage::Browser);
        }
        stages.push(Stage::Cli);
        Ok(Self {
            children: Children::new(!place.is_machine())?,
            stages: Stages::new(&stages, events.clone()),
            board: Board::new(events.clone()),
            events,
            host: Host::new(),
            desk: spare::Desk::default(),
            terminal: Terminal::new(),
            browser,
            tunnels: Arc::new(Tunnels::new()),
            proxy,
            claiming: tokio::sync::Mutex::new(()),
            owner: watch::Sender::new(None),
            tool: Tool::new(),
            used: Course::new(),
            turns: paste::Turns::default(),
            cli_pid: watch::Sender::new(None),
            last_words: watch::Sender::new(None),
            views: Mutex::default(),
            place,
        })
    }

    /// Whose machine this is, if anybody's.
    pub(crate) fn claim_now(&self) -> Option<Arc<Owner>> {
        self.owner.borrow().clone()
    }

    /// Waits for the claim, and a moment longer, in which it is answered.
    pub(crate) async fn claimed(&self) -> Arc<Owner> {
        loop {
            let claimed = self.owner.subscribe().wait_for(Option::is_some).await.map(|owner| owner.clone());
            if let Ok(Some(owner)) = claimed {
                tokio::time::sleep(Duration::from_millis(CLAIM_ANSWER_MS)).await;
                return owner;
            }
        }
    }

    /// What the pane runs for `provider`.
    pub(crate) fn tool_start(&self, provider: &Provider) -> pane::Start {
        let mut env = self.place.environment(Some(self.proxy));
        env.insert("TERM".into(), "tmux-256color".into());
        env.insert("COLORTERM".into(), "truecolor".into());
        env.extend(provider.env.clone());
        env.retain(|name, _| !provider.env_unset.contains(name));
        pane::Start { argv: provider.argv.clone(), env, dir: self.place.home.clone() }
    }

    /// The answer to `GET /hello`.
    pub(crate) fn hello(&self) -> Hello {
        let mut capabilities = vec!["terminal", "input", "screen", "egress"];
        if self.place.rfb_socket.is_some() {
            capabilities.push("desktop");
        }
        if self.browser.is_some() {
            capabilities.push("browser");
        }
        Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            image_hash: self.place.image_hash.clone(),
            capabilities: capabilities.into_iter().map(str::to_owned).collect(),
            clis: self.place.clis.clone(),
            stages: self.stages.reports(),
            claimed: self.claim_now().map(|owner| owner.by.clone()),
        }
    }
}

/// Runs all parts. Returns only with an error: every part is for ever.
pub(crate) async fn run(place: Place, media: Media) -> anyhow::Result<()> {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, place.proxy_port)).await.context("the proxy's port")?;
    let agent = Arc::new(Agent::new(place, proxy.local_addr()?)?);
    let shim = shim::listen(&agent).context("the shim's socket")?;
    let mut parts = JoinSet::new();
    start_channels(&mut parts, &agent, media);
    start_programs(&mut parts, &agent, shim, proxy);
    while let Some(part) = parts.join_next().await {
        part.context("a part of the agent broke")??;
    }
    Ok(())
}

fn start_channels(parts: &mut JoinSet<anyhow::Result<()>>, agent: &Arc<Agent>, media: Media) {
    let on = agent.clone();
    parts.spawn(async move {
        let serve = |connection| serve::connection(on.clone(), connection);
        host::keep_line(media.agent, serve).await.context("the agent's channel")
    });
    let on = agent.clone();
    parts.spawn(async move {
        let serve = |connection| {
            let host = on.host.clone();
            async move { host.serve(connection).await }
        };
        host::keep_line(media.host, serve).await.context("the host's channel")
    });
    for_ever(parts, host::send_events(agent.clone()));
}

fn start_programs(parts: &mut JoinSet<anyhow::Result<()>>, agent: &Arc<Agent>, shim: UnixListener, proxy: TcpListener) {
    let on = agent.clone();
    parts.spawn(async move { shim::serve(on, shim).await.context("the shim's socket") });
    let on = agent.clone();
    parts.spawn(async move { proxy::serve(on, proxy).await.context("the proxy") });
    for service in display::services(agent) {
        for_ever(parts, supervisor::keep(agent.clone(), service));
    }
    for_ever(parts, display::probe_display(agent.clone()));
    for_ever(parts, spare::keep(agent.clone()));
    for_ever(parts, display::probe_window_manager(agent.clone()));
    for_ever(parts, terminal::keep(agent.clone()));
    for_ever(parts, browser::keep(agent.clone()));
    for_ever(parts, browser::watch_front(agent.clone()));
    for_ever(parts, screen::watch(agent.clone()));
    for_ever(parts, capture::watch(agent.clone()));
    for_ever(parts, memory::watch(agent.clone()));
}

fn for_ever(parts: &mut JoinSet<anyhow::Result<()>>, part: impl Future<Output = ()> + Send + 'static) {
    parts.spawn(async move {
        part.await;
        Ok(())
    });
}

/// Process mode: runs until SIGTERM or SIGINT, then removes what it made.
pub(crate) async fn run_as_process(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sockets = (config.agent_socket.clone(), config.host_socket.clone());
    let place = Place::process(config)?;
    link_shim(&place).context("the BROWSER shim")?;
    let media = Media {
        agent: Medium::unix(&sockets.0).with_context(|| format!("{}", sockets.0.display()))?,
        host: Medium::unix(&sockets.1).with_context(|| format!("{}", sockets.1.display()))?,
    };
    let made: [PathBuf; 6] = [
        sockets.0,
        sockets.1,
        place.shim.clone(),
        place.shim_socket.clone(),
        place.tmux_socket.clone(),
        place.tmux_config.clone(),
    ];
    log::line("listening");
    let ended = tokio::select! {
        ended = run(place, media) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // Its children die with this thread.
    for path in &made {
        let _ = std::fs::remove_file(path);
    }
    ended
}

fn link_shim(place: &Place) -> std::io::Result<()> {
    match std::fs::remove_file(&place.shim) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::os::unix::fs::symlink(&place.agent_exe, &place.shim)
}

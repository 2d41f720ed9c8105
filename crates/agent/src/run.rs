//! Assembles the agent and runs its tasks. It is assembled in the same way in a machine and in process mode.

use crate::{
    agent::Agent,
    capture,
    channel::{
        accept::accept_connections, api, egress_proxy, local_api, send_events::send_events, transport::Transport,
    },
    desktop::{
        browser::{self, BrowserProcess},
        display, preconnected_rfb, programs,
    },
    log,
    platform::{
        environment::ExecutionEnvironment, local_socket, memory_pressure, process_mode_config::ProcessModeConfig,
    },
    sign_in::screen_watch,
    terminal::server::TmuxServer,
    use_credential,
};
use anteroom_wire::agent::EgressBy;
use anyhow::Context;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

type Tasks = JoinSet<anyhow::Result<()>>;

/// The two channels to the controller.
pub(crate) struct Transports {
    /// The agent is the HTTP/2 server on this one.
    pub(crate) agent_server: Transport,
    /// The agent is the HTTP/2 client on this one.
    pub(crate) controller_server: Transport,
}

/// Runs the agent. Returns only with an error, since its tasks run forever.
pub(crate) async fn run_agent(environment: ExecutionEnvironment, transports: Transports) -> anyhow::Result<()> {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, environment.proxy_port)).await.context("the proxy's port")?;
    let agent = Arc::new(Agent::new(environment, proxy.local_addr()?)?);
    let local = local_socket::listen(&agent.environment).context("the local socket")?;
    let mut tasks = JoinSet::new();
    start_channels(&mut tasks, &agent, transports);
    start_listeners(&mut tasks, &agent, local);
    start_proxy(&mut tasks, &agent, proxy, EgressBy::Tool);
    start_programs(&mut tasks, &agent);
    if agent.browser.is_some() {
        let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the browser's proxy")?;
        start_browser(&mut tasks, &agent, proxy.local_addr()?);
        start_proxy(&mut tasks, &agent, proxy, EgressBy::Browser);
    }
    start_watches(&mut tasks, &agent);
    while let Some(task) = tasks.join_next().await {
        task.context("a task of the agent panicked")??;
    }
    Ok(())
}

fn start_channels(tasks: &mut Tasks, agent: &Arc<Agent>, transports: Transports) {
    let on = agent.clone();
    tasks.spawn(async move {
        let serve = |connection| api::serve_connection(on.clone(), connection);
        accept_connections(transports.agent_server, serve).await.context("the agent's channel")
    });
    let controller = agent.controller.clone();
    tasks.spawn(async move {
        let serve = |connection| {
            let controller = controller.clone();
            async move { controller.run_connection(connection).await }
        };
        accept_connections(transports.controller_server, serve).await.context("the controller's channel")
    });
    run_forever(tasks, agent, |agent| async move {
        send_events(&agent.events, &agent.controller, &agent.claim).await;
    });
}

fn start_listeners(tasks: &mut Tasks, agent: &Arc<Agent>, local: UnixListener) {
    let on = agent.clone();
    tasks.spawn(async move { local_api::serve_local_api(on, local).await.context("the local socket") });
}

fn start_proxy(tasks: &mut Tasks, agent: &Arc<Agent>, listener: TcpListener, by: EgressBy) {
    let on = agent.clone();
    tasks.spawn(async move { egress_proxy::serve_proxy(on, listener, by).await.context("the proxy") });
}

/// Starts the programs of the machine, and the tasks that track whether they are ready.
fn start_programs(tasks: &mut Tasks, agent: &Arc<Agent>) {
    for service in programs::desktop_services(&agent.environment) {
        run_forever(tasks, agent, |agent| agent.supervisor.clone().run(service));
    }
    run_forever(tasks, agent, |agent| async move {
        display::track_display(&agent.environment, &agent.readiness).await;
    });
    run_forever(tasks, agent, |agent| async move {
        display::track_window_manager(&agent.environment, &agent.readiness).await;
    });
    run_forever(tasks, agent, |agent| async move {
        preconnected_rfb::offer_preconnected_streams(
            &agent.environment,
            &agent.readiness,
            &agent.preconnected_rfb_slot,
        )
        .await;
    });
    run_forever(tasks, agent, |agent| async move {
        let Agent { environment, supervisor, terminal, .. } = &*agent;
        TmuxServer { environment, supervisor, terminal }.supervise_tmux().await;
    });
}

/// Starts the browser, which reaches hosts through `proxy`.
fn start_browser(tasks: &mut Tasks, agent: &Arc<Agent>, proxy: SocketAddr) {
    run_forever(tasks, agent, move |agent| async move {
        let Agent { environment, supervisor, claim, browser: Some(browser), events, .. } = &*agent else {
            return;
        };
        BrowserProcess { environment, supervisor, claim, browser, proxy, events }.keep_running().await;
    });
}

/// Starts the tasks that watch the machine for the controller.
fn start_watches(tasks: &mut Tasks, agent: &Arc<Agent>) {
    run_forever(tasks, agent, |agent| async move {
        if agent.browser.is_some() {
            browser::thaw_when_in_front(&agent.claim, &agent.readiness).await;
        }
    });
    run_forever(tasks, agent, |agent| async move {
        screen_watch::watch_screen(&agent.claim, &agent.sign_in, &agent.terminal).await;
    });
    run_forever(tasks, agent, |agent| async move { watch_credential(&agent).await });
    run_forever(tasks, agent, |agent| async move {
        if let Some(sources) = &agent.environment.memory {
            memory_pressure::report_memory_pressure(sources, &agent.events).await;
        }
    });
}

/// From the claim on: captures the credential of a sign-in, or runs the use of a stored one.
async fn watch_credential(agent: &Agent) {
    let claim = agent.claim.wait_claimed().await;
    match claim.use_credential.as_ref().map(|used| used.purpose) {
        Some(purpose) => use_credential::follow_use_to_completion(agent, claim, purpose).await,
        None => capture::capture_loop::watch_credential(agent, claim).await,
    }
}

fn run_forever<F>(tasks: &mut Tasks, agent: &Arc<Agent>, task: impl FnOnce(Arc<Agent>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let task = task(agent.clone());
    tasks.spawn(async move {
        task.await;
        Ok(())
    });
}

/// Process mode: runs until SIGTERM or SIGINT, then removes the files that it made.
pub(crate) async fn run_as_process(config: ProcessModeConfig) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (api_socket, controller_socket) = (config.agent_socket.clone(), config.controller_socket.clone());
    let environment = ExecutionEnvironment::for_process(config)?;
    link_url_opener(&environment).context("the URL opener")?;
    let transports = Transports {
        agent_server: Transport::unix(&api_socket).with_context(|| api_socket.display().to_string())?,
        controller_server: Transport::unix(&controller_socket)
            .with_context(|| controller_socket.display().to_string())?,
    };
    let created: [PathBuf; 6] = [
        api_socket,
        controller_socket,
        environment.url_opener.clone(),
        environment.local_socket.clone(),
        environment.tmux_socket.clone(),
        environment.tmux_config.clone(),
    ];
    log::write_line("listening");
    let ended = tokio::select! {
        ended = run_agent(environment, transports) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    // The children die with this thread.
    for path in &created {
        let _ = std::fs::remove_file(path);
    }
    ended
}

fn link_url_opener(environment: &ExecutionEnvironment) -> std::io::Result<()> {
    match std::fs::remove_file(&environment.url_opener) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::os::unix::fs::symlink(&environment.agent_exe, &environment.url_opener)
}

//! The parts of the agent that its tasks share.

use crate::{
    channel::{connection_slots::ConnectionSlots, controller_client::ControllerClient, event_queue::EventQueue},
    desktop::{browser::Browser, preconnected_rfb::PreconnectedRfbSlot},
    exec::EXECS_MAX,
    platform::{
        environment::ExecutionEnvironment, process_table::ProcessTable, program_supervisor::ProcessSupervisor,
        readiness::Readiness,
    },
    sign_in::{
        active_claim::ClaimSlot,
        state::SignInState,
        tool::{Tool, ToolCommand},
    },
    terminal::handle::Terminal,
    use_credential::run_state::RunState,
};
use anteroom_wire::{
    agent::{AgentInfo, PROTOCOL_VERSION, Stage},
    channel::USABLE_WHEN_DONE_CAPABILITY,
    provider::Provider,
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};
use tokio::sync::{Semaphore, watch};

/// Everything that lives as long as the agent.
pub(crate) struct Agent {
    pub(crate) environment: Arc<ExecutionEnvironment>,
    pub(crate) supervisor: ProcessSupervisor,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) sign_in: SignInState,
    pub(crate) controller: ControllerClient,
    /// Offers a prepared connection to the display server for the next viewer.
    pub(crate) preconnected_rfb_slot: PreconnectedRfbSlot,
    pub(crate) terminal: Terminal,
    pub(crate) browser: Option<Browser>,
    pub(crate) tunnels: Arc<ConnectionSlots>,
    /// The address of the proxy for the tool and other programs.
    pub(crate) proxy: SocketAddr,
    pub(crate) claim: ClaimSlot,
    pub(crate) tool: Tool,
    /// The state of the command with a stored credential.
    pub(crate) credential_use_run: RunState,
    /// The process id of the tool; `None`: it does not run.
    pub(crate) cli_pid: watch::Sender<Option<u32>>,
    /// The complete output of the command with a stored credential, after its exit.
    pub(crate) final_output: watch::Sender<Option<Vec<String>>>,
    /// The pseudo-terminals of the web terminals, by the controller's id.
    pub(crate) terminal_streams: Mutex<HashMap<String, Weak<OwnedFd>>>,
    /// A permit for each exec channel that may be open.
    pub(crate) exec_permits: Arc<Semaphore>,
}

impl Agent {
    /// # Errors
    /// The handler of SIGCHLD cannot be installed.
    pub(crate) fn new(environment: ExecutionEnvironment, proxy: SocketAddr) -> anyhow::Result<Self> {
        let events = Arc::new(EventQueue::default());
        let browser = Browser::new(&environment);
        let mut stages = Vec::new();
        if environment.rfb_socket.is_some() {
            stages.push(Stage::Display);
        }
        if environment.is_machine() {
            stages.push(Stage::WindowManager);
        }
        stages.push(Stage::Terminal);
        if browser.is_some() {
            stages.push(Stage::Browser);
        }
        stages.push(Stage::Cli);
        let readiness = Arc::new(Readiness::new(&stages, events.clone()));
        let processes = ProcessTable::new(!environment.is_machine())?;
        Ok(Self {
            supervisor: ProcessSupervisor { processes, readiness: readiness.clone(), events: events.clone() },
            readiness,
            sign_in: SignInState::new(events.clone()),
            events,
            controller: ControllerClient::new(),
            preconnected_rfb_slot: PreconnectedRfbSlot::default(),
            terminal: Terminal::new(),
            browser,
            tunnels: Arc::new(ConnectionSlots::new()),
            proxy,
            claim: ClaimSlot::new(),
            tool: Tool::new(),
            credential_use_run: RunState::new(),
            cli_pid: watch::Sender::new(None),
            final_output: watch::Sender::new(None),
            terminal_streams: Mutex::default(),
            exec_permits: Arc::new(Semaphore::new(EXECS_MAX)),
            environment: Arc::new(environment),
        })
    }

    /// The command of the tool of `provider`.
    pub(crate) fn build_tool_command(&self, provider: &Provider) -> ToolCommand {
        ToolCommand::new(&self.environment, self.proxy, provider)
    }

    /// The response to `GET /hello`.
    pub(crate) fn agent_info(&self) -> AgentInfo {
        let mut capabilities = vec!["terminal", "input", "screen", "egress", "exec", USABLE_WHEN_DONE_CAPABILITY];
        if self.environment.rfb_socket.is_some() {
            capabilities.push("desktop");
        }
        if self.browser.is_some() {
            capabilities.push("browser");
        }
        AgentInfo {
            protocol: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").into(),
            image_hash: self.environment.image_hash.clone().into(),
            capabilities: capabilities.into_iter().map(Into::into).collect(),
            clis: self
                .environment
                .tool_versions
                .clone()
                .into_iter()
                .map(|(name, version)| (name.into(), version.into()))
                .collect(),
            stages: self.readiness.reports(),
            claimed_by: self.claim.current().map(|claim| claim.claimed_by.clone()),
        }
    }
}

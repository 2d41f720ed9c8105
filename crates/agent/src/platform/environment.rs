//! Where the agent runs: the only thing that differs between a machine and a plain process.

use crate::{
    config::{Config, default_path},
    memory::Sources,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The unprivileged user of a machine's desktop, created in the image.
pub(crate) const PERSON: &str = "person";
/// That user's id and group.
pub(crate) const PERSON_ID: u32 = 1000;
/// The X display of a machine.
pub(crate) const DISPLAY: &str = ":1";
/// Where the agent keeps its own files in a machine.
pub(crate) const RUN_DIR: &str = "/run/anteroom";
/// The name under which programs in a machine call the shim; the image links it to the agent in [`RUN_DIR`].
const SHIM: &str = "/usr/libexec/anteroom/browser";

/// A machine of its own, or a process among others.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// PID 1 of a machine: own kernel, clock, entropy, display.
    Machine {
        /// The desktop's size at the start.
        width: u16,
        /// Likewise.
        height: u16,
        /// Chromium, when the image has it.
        browser: Option<PathBuf>,
    },
    /// A process on somebody's host: it changes nothing but its own directory.
    Process,
}

/// Paths and names.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// The agent's own binary, as other programs can start it.
    pub(crate) agent_exe: PathBuf,
    /// What `BROWSER` names.
    pub(crate) shim: PathBuf,
    /// Where shim and pane find the agent.
    pub(crate) shim_socket: PathBuf,
    pub(crate) tmux_socket: PathBuf,
    pub(crate) tmux_config: PathBuf,
    /// Where the display server answers; `None`: no desktop.
    pub(crate) rfb_socket: Option<PathBuf>,
    pub(crate) home: PathBuf,
    pub(crate) image_hash: String,
    pub(crate) clis: BTreeMap<String, String>,
    pub(crate) path: String,
    pub(crate) extra_env: BTreeMap<String, String>,
    /// Where the proxy listens; port 0: any.
    pub(crate) proxy_port: u16,
    /// What tells of its memory; `None`: it has none of its own.
    pub(crate) memory: Option<Sources>,
}

/// The proxy's port in a machine.
const PROXY_PORT: u16 = 3128;

impl Place {
    /// A machine; `width` × `height` and the hash come from the kernel's command line.
    pub(crate) fn machine(
        width: u16,
        height: u16,
        browser: Option<PathBuf>,
        image_hash: String,
        clis: BTreeMap<String, String>,
    ) -> Self {
        let run = Path::new(RUN_DIR);
        Self {
            kind: Kind::Machine { width, height, browser },
            agent_exe: run.join("agent"),
            shim: SHIM.into(),
            shim_socket: run.join("shim.sock"),
            tmux_socket: run.join("person/tmux.sock"),
            tmux_config: run.join("tmux.conf"),
            rfb_socket: Some(run.join("person/rfb.sock")),
            home: Path::new("/home").join(PERSON),
            image_hash,
            clis,
            path: default_path(),
            extra_env: BTreeMap::new(),
            proxy_port: PROXY_PORT,
            memory: Some(Sources::kernel()),
        }
    }

    /// A process as `config` says.
    pub(crate) fn process(config: Config) -> anyhow::Result<Self> {
        let work = &config.work_dir;
        Ok(Self {
            kind: Kind::Process,
            agent_exe: std::env::current_exe()?,
            shim: work.join("browser"),
            shim_socket: work.join("shim.sock"),
            tmux_socket: work.join("tmux.sock"),
            tmux_config: work.join("tmux.conf"),
            rfb_socket: config.rfb_socket,
            home: config.home,
            image_hash: config.image_hash,
            clis: config.clis,
            path: config.path,
            extra_env: config.env,
            proxy_port: 0,
            memory: config.memory,
        })
    }

    /// Whether this is a machine of its own.
    pub(crate) fn is_machine(&self) -> bool {
        match self.kind {
            Kind::Machine { .. } => true,
            Kind::Process => false,
        }
    }

    /// The user that programs run as; `None`: the agent's own.
    pub(crate) fn person_id(&self) -> Option<u32> {
        self.is_machine().then_some(PERSON_ID)
    }

    /// The whole environment of a program of the person's: built, never inherited.
    pub(crate) fn environment(&self, proxy: Option<SocketAddr>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut env: BTreeMap<String, String> = [
            ("HOME", text(&self.home)),
            ("PATH", self.path.clone()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "xterm-256color".to_owned()),
            ("BROWSER", text(&self.shim)),
            ("ANTEROOM_SOCKET", text(&self.shim_socket)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if self.is_machine() {
            env.insert("USER".into(), PERSON.into());
            env.insert("LOGNAME".into(), PERSON.into());
            env.insert("SHELL".into(), "/bin/sh".into());
            env.insert("DISPLAY".into(), DISPLAY.into());
            env.insert("XDG_RUNTIME_DIR".into(), format!("/run/user/{PERSON_ID}"));
        }
        if let Some(proxy) = proxy {
            for key in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                env.insert(key.to_owned(), format!("http://{proxy}"));
                env.insert(key.to_ascii_lowercase(), format!("http://{proxy}"));
            }
            for key in ["NO_PROXY", "no_proxy"] {
                env.insert(key.to_owned(), "localhost,127.0.0.1,::1".to_owned());
            }
        }
        env.extend(self.extra_env.clone());
        env
    }
}

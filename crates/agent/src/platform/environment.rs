//! The paths and users of the agent. Only they differ between a machine and a plain process.

use super::process_mode_config::{MemorySources, ProcessModeConfig, default_exec_search_path};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The unprivileged user of a machine, created in the image.
const USER_NAME: &str = "user";
/// That user's id and group id.
pub(crate) const USER_ID: u32 = 1000;
/// The X display of a machine.
pub(crate) const DISPLAY: &str = ":1";
/// The directory of the agent's files in a machine.
pub(crate) const RUN_DIR: &str = "/run/anteroom";
/// The URL opener in a machine; the image links it to the agent in [`RUN_DIR`].
const URL_OPENER: &str = "/usr/libexec/anteroom/browser";

/// How the agent runs.
#[derive(Debug, Clone)]
pub(crate) enum RunMode {
    /// As PID 1 of a machine, which has a separate kernel, clock, entropy pool and display.
    Machine {
        /// The desktop's width at the start, pixels.
        width: u16,
        /// The desktop's height at the start, pixels.
        height: u16,
        /// Chromium, if the image contains it.
        browser: Option<PathBuf>,
    },
    /// As an ordinary process: it changes nothing outside its working directory and the tool's home.
    Process,
}

/// Paths, users and names.
#[derive(Debug, Clone)]
pub(crate) struct ExecutionEnvironment {
    pub(crate) mode: RunMode,
    /// The agent's binary, as other programs can start it.
    pub(crate) agent_exe: PathBuf,
    /// The value of `BROWSER`: a link to the agent, which then forwards the URL ([`crate::sign_in::url_opener`]).
    pub(crate) url_opener: PathBuf,
    /// The agent's socket for the URL opener and the pane.
    pub(crate) local_socket: PathBuf,
    pub(crate) tmux_socket: PathBuf,
    pub(crate) tmux_config: PathBuf,
    /// The display server's socket; `None`: no desktop.
    pub(crate) rfb_socket: Option<PathBuf>,
    /// The directory for [`Self::extra_ca_file`] and [`Self::ca_bundle_file`].
    ca_dir: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) image_hash: String,
    pub(crate) tool_versions: BTreeMap<String, String>,
    pub(crate) exec_search_path: String,
    pub(crate) extra_env: BTreeMap<String, String>,
    /// The proxy's port; 0: any free one.
    pub(crate) proxy_port: u16,
    /// The files that report memory use; `None`: memory is not watched.
    pub(crate) memory: Option<MemorySources>,
}

/// The proxy's port in a machine, for the tool and all other programs but the browser.
const PROXY_PORT: u16 = 3128;

impl ExecutionEnvironment {
    /// A machine; `width` × `height` and the hash come from the kernel's command line.
    pub(crate) fn for_machine(
        width: u16,
        height: u16,
        browser: Option<PathBuf>,
        image_hash: String,
        clis: BTreeMap<String, String>,
    ) -> Self {
        let run = Path::new(RUN_DIR);
        Self {
            mode: RunMode::Machine { width, height, browser },
            agent_exe: run.join("agent"),
            url_opener: URL_OPENER.into(),
            local_socket: run.join("local.sock"),
            tmux_socket: run.join("user/tmux.sock"),
            tmux_config: run.join("tmux.conf"),
            rfb_socket: Some(run.join("user/rfb.sock")),
            ca_dir: run.to_owned(),
            home: Path::new("/home").join(USER_NAME),
            image_hash,
            tool_versions: clis,
            exec_search_path: default_exec_search_path(),
            extra_env: BTreeMap::new(),
            proxy_port: PROXY_PORT,
            memory: Some(MemorySources::kernel_files()),
        }
    }

    /// Process mode, as configured.
    pub(crate) fn for_process(config: ProcessModeConfig) -> anyhow::Result<Self> {
        let work = &config.work_dir;
        Ok(Self {
            mode: RunMode::Process,
            agent_exe: std::env::current_exe()?,
            url_opener: work.join("browser"),
            local_socket: work.join("local.sock"),
            tmux_socket: work.join("tmux.sock"),
            tmux_config: work.join("tmux.conf"),
            rfb_socket: config.rfb_socket,
            ca_dir: work.clone(),
            home: config.home,
            image_hash: config.image_hash,
            tool_versions: config.tool_versions,
            exec_search_path: config.exec_search_path,
            extra_env: config.env,
            proxy_port: 0,
            memory: config.memory,
        })
    }

    /// Whether the agent is PID 1 of a machine.
    pub(crate) fn is_machine(&self) -> bool {
        match self.mode {
            RunMode::Machine { .. } => true,
            RunMode::Process => false,
        }
    }

    /// The certificate authorities of the claim, PEM; exists if there are any.
    pub(crate) fn extra_ca_file(&self) -> PathBuf {
        self.ca_dir.join("extra-ca.pem")
    }

    /// Those of the system and those of the claim, PEM; exists if there are any of the claim.
    pub(crate) fn ca_bundle_file(&self) -> PathBuf {
        self.ca_dir.join("ca-bundle.pem")
    }

    /// The user as whom programs run; `None`: the agent's own.
    pub(crate) fn user_id(&self) -> Option<u32> {
        self.is_machine().then_some(USER_ID)
    }

    /// The complete environment variables of the user's programs; nothing is inherited. `proxy`: the HTTP proxy to name in them.
    pub(crate) fn program_env(&self, proxy: Option<SocketAddr>) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut env: BTreeMap<String, String> = [
            ("HOME", text(&self.home)),
            ("PATH", self.exec_search_path.clone()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "xterm-256color".to_owned()),
            ("BROWSER", text(&self.url_opener)),
            ("ANTEROOM_SOCKET", text(&self.local_socket)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if self.is_machine() {
            env.insert("USER".into(), USER_NAME.into());
            env.insert("LOGNAME".into(), USER_NAME.into());
            env.insert("SHELL".into(), "/bin/sh".into());
            env.insert("DISPLAY".into(), DISPLAY.into());
            env.insert("XDG_RUNTIME_DIR".into(), format!("/run/user/{USER_ID}"));
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
        let (extra, bundle) = (self.extra_ca_file(), self.ca_bundle_file());
        if bundle.exists() {
            env.insert("NODE_EXTRA_CA_CERTS".into(), text(&extra));
            for key in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"] {
                env.insert(key.into(), text(&bundle));
            }
        }
        env.extend(self.extra_env.clone());
        env
    }
}

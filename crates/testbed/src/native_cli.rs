//! A released command-line tool on this host, in a terminal, with the environment that it has in a machine.
//!
//! ```text
//!  NativeCli ─▶ tmux (the screen, as the agent reads it) ─▶ the tool ── HTTPS_PROXY ─▶ NameProxy ─▶ fake issuer
//!                                                              └─ BROWSER, xdg-open: a file with the URLs that were opened
//! ```
//!
//! The tool is started as the provider's descriptor says, so a test that signs in tests the descriptor too. Its home directory is
//! temporary.

mod name_proxy;
mod pinned_tools;
mod recording;
mod screen;
mod terminal;

pub use name_proxy::NameProxy;
pub use pinned_tools::PinnedTools;
pub use recording::Recording;
pub use screen::{check_screen, mask_screen};

use crate::eventually;
use anteroom_screen::ScreenSnapshot;
use anteroom_wire::provider::{CredentialFormat, EgressRule, Provider};
use anyhow::{Context, ensure};
use regex_lite::Regex;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use terminal::Terminal;

/// The longest wait for one step of a tool on a busy host.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(90);
const POLL_EVERY: Duration = Duration::from_millis(100);
/// A screen that is the same in this number of polls is complete.
const STABLE_POLLS: u32 = 4;

/// A running tool. Killed when dropped.
#[derive(Debug)]
pub struct NativeCli {
    terminal: Terminal,
    proxy: NameProxy,
    provider: Provider,
    env: BTreeMap<String, String>,
    dir: TempDir,
}

/// How a tool is started.
#[derive(Debug)]
pub struct StartOptions<'a> {
    /// Its descriptor.
    pub provider: Provider,
    /// The directories of its binaries.
    pub tools: &'a PinnedTools,
    /// The certificate authority that it trusts, PEM.
    pub ca_pem: String,
    /// `name:443` → the address that the proxy connects to.
    pub host_overrides: BTreeMap<String, SocketAddr>,
    /// Environment variables in addition to the descriptor's.
    pub env: &'a [(&'a str, &'a str)],
}

/// The terminal of a tool.
#[derive(Debug, Clone)]
pub struct TerminalSetup {
    /// Its width in characters.
    pub columns: u16,
    /// Its height in characters.
    pub rows: u16,
    /// The tool's standard input instead of the terminal, for a method with `key_entry`.
    pub key: Option<String>,
}

impl TerminalSetup {
    /// The size of a machine's terminal before a client connects to it.
    pub const MACHINE: Self = Self { columns: 160, rows: 45, key: None };
    /// The smallest size of a user's terminal that is supported.
    pub const MINIMUM: Self = Self { columns: 80, rows: 24, key: None };

    /// The same size, with a secret on the tool's standard input.
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }
}

impl Default for TerminalSetup {
    fn default() -> Self {
        Self { columns: 120, rows: 40, key: None }
    }
}

/// A credential file as the tool wrote it.
#[derive(Debug, Clone)]
pub struct CredentialFile {
    /// Its path relative to the home directory.
    pub path: String,
    /// Its bytes.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

/// Reads a descriptor of the product, `providers/NAME.toml`.
///
/// # Errors
/// There is none, it does not parse, or it is invalid.
pub fn load_descriptor(name: &str) -> anyhow::Result<Provider> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers").join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let provider: Provider = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let faults = provider.validation_errors();
    ensure!(faults.is_empty(), "{}: {faults:?}", path.display());
    Ok(provider.with_egress_groups())
}

impl NativeCli {
    /// Writes the descriptor's settings files and starts its command.
    ///
    /// # Errors
    /// No port, a file cannot be written, or tmux fails.
    pub async fn start(start: StartOptions<'_>) -> anyhow::Result<Self> {
        Self::start_in(start, &TerminalSetup::default()).await
    }

    /// The same in a terminal of another size, or with a secret on the standard input.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_in(start: StartOptions<'_>, setup: &TerminalSetup) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("cli").tempdir()?;
        let (home, openers) = (dir.path().join("home"), dir.path().join("openers"));
        fs::create_dir_all(&home)?;
        fs::create_dir_all(&openers)?;
        fs::create_dir_all(dir.path().join("tmp"))?;
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, &start.ca_pem)?;
        for file in &start.provider.settings_files {
            let path = home.join(&file.path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, &file.content)?;
        }
        let opened = dir.path().join("opened");
        fs::write(&opened, "")?;
        let opener = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{}'\n", opened.display());
        for name in ["browser", "xdg-open"] {
            let path = openers.join(name);
            fs::write(&path, &opener)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let proxy = NameProxy::start(start.host_overrides.clone()).await?;
        let env = environment(dir.path(), &start, &format!("http://{}", proxy.address()));
        let terminal =
            Terminal::start(dir.path(), &home, &env, &start.tools.resolve_program(&start.provider.argv)?, setup)
                .await?;
        Ok(Self { terminal, proxy, provider: start.provider, env, dir })
    }

    /// The visible lines. Lines that the terminal wrapped are joined.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn read_screen(&self) -> anyhow::Result<String> {
        self.terminal.read_screen().await
    }

    /// The screen as the agent reads it: with hyperlinks, its size and the cursor's row.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn read_snapshot(&self) -> anyhow::Result<ScreenSnapshot> {
        self.terminal.read_snapshot().await
    }

    /// The rows of the terminal. A line that the terminal wrapped is several rows.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn read_rows(&self) -> anyhow::Result<Vec<String>> {
        self.terminal.read_rows().await
    }

    /// Waits until the screen matches `pattern` and is stable; returns the whole screen.
    ///
    /// # Errors
    /// It does not match in time.
    pub async fn wait_for(&self, pattern: &str) -> anyhow::Result<String> {
        let wanted = Regex::new(pattern)?;
        let deadline = Instant::now() + STEP_TIMEOUT;
        let (mut last, mut unchanged) = (String::new(), 0);
        loop {
            let screen = self.read_screen().await?;
            let current = mask_screen(&screen);
            unchanged = if current == last { unchanged + 1 } else { 0 };
            last = current;
            if unchanged >= STABLE_POLLS && wanted.is_match(&screen) {
                return Ok(screen);
            }
            ensure!(Instant::now() < deadline, "the terminal never showed {pattern:?}:\n{last}");
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Pastes a text as the agent does, then presses Enter.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn paste_and_enter(&self, text: &str) -> anyhow::Result<()> {
        self.terminal.paste(text).await?;
        self.terminal.press("Enter").await
    }

    /// Presses a key, by tmux's name for it.
    ///
    /// # Errors
    /// The terminal has ended.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        self.terminal.press(key).await
    }

    /// The last URL that the tool opened in a browser. Waits for the first.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn wait_opened_url(&self) -> anyhow::Result<String> {
        let path = self.dir.path().join("opened");
        let last = || fs::read_to_string(&path).ok()?.lines().last().map(str::to_owned);
        eventually("the tool opens a URL", STEP_TIMEOUT, async || Ok(last())).await
    }

    /// Waits for the tool's exit and returns its exit code.
    ///
    /// # Errors
    /// It does not exit in time.
    pub async fn wait_exit(&self) -> anyhow::Result<i32> {
        let exited = eventually("the tool exits", STEP_TIMEOUT, async || self.terminal.exit_code()).await;
        match exited {
            Ok(code) => Ok(code),
            Err(error) => Err(error.context(mask_screen(&self.read_screen().await?))),
        }
    }

    /// The URL on a screen, by the descriptor's pattern.
    ///
    /// # Errors
    /// The descriptor has no such pattern, or there is no match.
    pub fn find_url(&self, screen: &str) -> anyhow::Result<String> {
        let pattern = self.provider.sign_in.url.as_deref().context("sign_in.url is not set")?;
        let found = Regex::new(pattern)?.find_iter(screen).last().map(|found| found.as_str().to_owned());
        found.with_context(|| format!("sign_in.url is not on the screen:\n{screen}"))
    }

    /// The credential by the descriptor's rules. Waits until a file is complete.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn wait_credential(&self) -> anyhow::Result<CredentialFile> {
        eventually("the credential is complete", STEP_TIMEOUT, async || self.read_complete_credential()).await
    }

    /// The credential, if it is complete.
    ///
    /// # Errors
    /// A file cannot be read, or a pattern of the descriptor is invalid.
    pub fn read_complete_credential(&self) -> anyhow::Result<Option<CredentialFile>> {
        let format = CredentialFormat::new(&self.provider.credential)?;
        for path in &self.provider.credential.paths {
            let file = self.home().join(path);
            let Ok(text) = fs::read_to_string(&file) else { continue };
            if format.check_bytes(text.as_bytes()).is_ok() {
                let mode = fs::metadata(&file)?.permissions().mode() & 0o7777;
                return Ok(Some(CredentialFile { path: path.clone(), text, mode }));
            }
        }
        Ok(None)
    }

    /// Runs the descriptor's status command; returns its exit code and its output, both streams.
    ///
    /// # Errors
    /// There is no such command, or it does not end in time.
    pub async fn run_status_command(&self, clis: &PinnedTools) -> anyhow::Result<(Option<i32>, String)> {
        let argv = clis.resolve_program(&self.provider.credential.status_argv)?;
        terminal::run_for_output(&argv, &self.home(), &self.env).await
    }

    /// What the tool requested from the proxy, in order: `name:port`, or the first line of a request that is no `CONNECT`.
    pub fn requested_targets(&self) -> Vec<String> {
        self.proxy.requested_targets()
    }

    /// The requested targets that the descriptor does not allow.
    pub fn denied_targets(&self) -> Vec<String> {
        let allowed = |target: &String| {
            let (host, port) = target.rsplit_once(':').unwrap_or((target, ""));
            let port = port.parse().unwrap_or(0);
            self.provider.egress.iter().any(|rule: &EgressRule| rule.allows(host, port))
        };
        self.requested_targets().into_iter().filter(|target| !allowed(target)).collect()
    }

    /// The socket of the terminal's tmux, to which a user can attach.
    pub fn tmux_socket(&self) -> PathBuf {
        self.dir.path().join("tmux.sock")
    }

    /// The exit code, if the tool has exited.
    ///
    /// # Errors
    /// The recorded exit code is invalid.
    pub fn exit_code(&self) -> anyhow::Result<Option<i32>> {
        self.terminal.exit_code()
    }

    /// The descriptor that it was started with.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The tool's home directory.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Stops the tool and everything that it started.
    ///
    /// # Errors
    /// A process is left.
    pub async fn finish(self) -> anyhow::Result<()> {
        let Self { terminal, proxy, dir, .. } = self;
        terminal.finish().await?;
        drop(proxy);
        crate::LeakScan::for_dir(dir.path()).wait_none_left(STEP_TIMEOUT).await
    }
}

/// The tool's environment variables: the machine's, then the descriptor's, then the test's.
fn environment(dir: &Path, start: &StartOptions<'_>, proxy: &str) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (openers, address) = (dir.join("openers"), proxy.to_owned());
    let mut env: BTreeMap<String, String> = [
        ("HOME", text(&dir.join("home"))),
        ("PATH", format!("{}:{}:/usr/bin:/bin", openers.display(), start.tools.search_path())),
        // The home directory must not be below TMPDIR: some tools check it, and in a machine it is not.
        ("TMPDIR", text(&dir.join("tmp"))),
        ("LANG", "C.UTF-8".to_owned()),
        ("COLORTERM", "truecolor".to_owned()),
        ("BROWSER", text(&openers.join("browser"))),
        // A machine has a desktop; the tools only check whether the variable is set.
        ("DISPLAY", ":anteroom".to_owned()),
        ("HTTP_PROXY", address.clone()),
        ("HTTPS_PROXY", address.clone()),
        ("ALL_PROXY", address),
        ("NO_PROXY", "localhost,127.0.0.1,::1".to_owned()),
        ("NODE_EXTRA_CA_CERTS", text(&dir.join("ca.pem"))),
        ("CODEX_CA_CERTIFICATE", text(&dir.join("ca.pem"))),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for key in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        let value = env.get(key).cloned().unwrap_or_default();
        env.insert(key.to_ascii_lowercase(), value);
    }
    env.retain(|key, _| !start.provider.env_unset.contains(key));
    env.extend(start.provider.env.clone());
    env.extend(start.env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
    env
}

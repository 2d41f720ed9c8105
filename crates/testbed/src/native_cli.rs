//! A released command-line tool on this host, in a terminal, with everything around it that a machine would give it.
//!
//! ```text
//!  NativeCli ─▶ tmux (the screen, as the agent reads it) ─▶ the tool ── HTTPS_PROXY ─▶ NameProxy ─▶ stand-in issuer
//!                                                              └─ BROWSER, xdg-open: a file that names what was opened
//! ```
//!
//! What it is started with comes from the provider's descriptor, so a test that signs in proves the descriptor as well.
//! Its home is a directory of its own, which goes with it.

mod installed_tools;
mod name_proxy;
mod recording;
mod screen;
mod terminal;

pub use installed_tools::InstalledTools;
pub use name_proxy::NameProxy;
pub use recording::Recording;
pub use screen::{kept, masked};

use anteroom_screen::ScreenSnapshot;
use anteroom_wire::provider::{CredentialRules, EgressRule, FileFormat, Provider};
use anyhow::{Context, ensure};
use regex_lite::Regex;
use serde_json::Value;
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

/// How long a tool may take for one step on a busy host.
pub const STEP: Duration = Duration::from_secs(90);
const EVERY: Duration = Duration::from_millis(100);
/// A screen that does not change for so many looks is taken as drawn.
const STILL_LOOKS: u32 = 4;

/// A tool that runs. Ends when dropped.
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
pub struct Start<'a> {
    /// Its descriptor.
    pub provider: Provider,
    /// Where its binaries are.
    pub clis: &'a InstalledTools,
    /// The authority that it shall believe, PEM.
    pub ca: String,
    /// Where names lead: `name:443` to an address.
    pub answers: BTreeMap<String, SocketAddr>,
    /// Environment beside the descriptor's.
    pub env: &'a [(&'a str, &'a str)],
}

/// The terminal that a tool is given.
#[derive(Debug, Clone)]
pub struct Seat {
    /// Its width.
    pub columns: u16,
    /// Its height.
    pub rows: u16,
    /// What the tool reads from its standard input instead of the terminal, for a method with `key_entry`.
    pub key: Option<String>,
}

impl Seat {
    /// As a machine's terminal is before anybody looks at it.
    pub const OF_A_MACHINE: Self = Self { columns: 160, rows: 45, key: None };
    /// The smallest that a person may be expected to have.
    pub const SMALL: Self = Self { columns: 80, rows: 24, key: None };

    /// The same with a secret for the tool.
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }
}

impl Default for Seat {
    fn default() -> Self {
        Self { columns: 120, rows: 40, key: None }
    }
}

/// A credential file as the tool wrote it.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its path below the home.
    pub path: String,
    /// Its bytes.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A descriptor of the product's own, `providers/NAME.toml`.
///
/// # Errors
/// There is none, it does not parse, or it has faults.
pub fn descriptor(name: &str) -> anyhow::Result<Provider> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers").join(format!("{name}.toml"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let provider: Provider = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let faults = provider.faults();
    ensure!(faults.is_empty(), "{}: {faults:?}", path.display());
    Ok(provider)
}

impl NativeCli {
    /// Lays down the descriptor's files and starts its command.
    ///
    /// # Errors
    /// A port, a file or tmux is refused.
    pub async fn start(start: Start<'_>) -> anyhow::Result<Self> {
        Self::start_at(start, &Seat::default()).await
    }

    /// The same in a terminal of another size, or with a secret on the standard input.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_at(start: Start<'_>, seat: &Seat) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("cli").tempdir()?;
        let (home, shims) = (dir.path().join("home"), dir.path().join("shims"));
        fs::create_dir_all(&home)?;
        fs::create_dir_all(&shims)?;
        fs::create_dir_all(dir.path().join("tmp"))?;
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, &start.ca)?;
        for file in &start.provider.settings_files {
            let path = home.join(&file.path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, &file.content)?;
        }
        let opened = dir.path().join("opened");
        fs::write(&opened, "")?;
        let shim = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{}'\n", opened.display());
        for name in ["browser", "xdg-open"] {
            let path = shims.join(name);
            fs::write(&path, &shim)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let proxy = NameProxy::start(start.answers.clone()).await?;
        let env = environment(dir.path(), &start, &format!("http://{}", proxy.address()));
        let terminal = Terminal::start(dir.path(), &home, &env, &start.clis.found(&start.provider.argv)?, seat).await?;
        Ok(Self { terminal, proxy, provider: start.provider, env, dir })
    }

    /// The visible lines, those joined that the terminal wrapped.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn screen(&self) -> anyhow::Result<String> {
        self.terminal.screen().await
    }

    /// The screen as the agent takes it in: with hyperlinks, size, and whether the cursor stands in the text.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn look(&self) -> anyhow::Result<ScreenSnapshot> {
        self.terminal.look().await
    }

    /// The rows as they are, a line that the terminal wrapped in several.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn rows(&self) -> anyhow::Result<Vec<String>> {
        self.terminal.rows().await
    }

    /// Waits until `pattern` stands on the screen and the screen is still; the whole screen.
    ///
    /// # Errors
    /// It is not there in time.
    pub async fn shows(&self, pattern: &str) -> anyhow::Result<String> {
        let wanted = Regex::new(pattern)?;
        let by = Instant::now() + STEP;
        let (mut last, mut still) = (String::new(), 0);
        loop {
            let screen = self.screen().await?;
            let as_kept = masked(&screen);
            still = if as_kept == last { still + 1 } else { 0 };
            last = as_kept;
            if still >= STILL_LOOKS && wanted.is_match(&screen) {
                return Ok(screen);
            }
            ensure!(Instant::now() < by, "the terminal never showed {pattern:?}:\n{last}");
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Pastes a text as the agent does, then presses Enter.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn enter(&self, text: &str) -> anyhow::Result<()> {
        self.terminal.paste(text).await?;
        self.terminal.press("Enter").await
    }

    /// Presses a key, by tmux's name for it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn press(&self, key: &str) -> anyhow::Result<()> {
        self.terminal.press(key).await
    }

    /// The last address that the tool wanted opened; waits for the first.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn opened(&self) -> anyhow::Result<String> {
        let path = self.dir.path().join("opened");
        let look = || fs::read_to_string(&path).ok()?.lines().last().map(str::to_owned);
        within("the tool opens an address", || Ok(look())).await
    }

    /// The tool's exit code; waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn exit(&self) -> anyhow::Result<i32> {
        let ended = within("the tool ends", || self.terminal.exit()).await;
        match ended {
            Ok(code) => Ok(code),
            Err(error) => Err(error.context(masked(&self.screen().await?))),
        }
    }

    /// The address on a screen, by the descriptor's pattern.
    ///
    /// # Errors
    /// The descriptor has no such pattern, or there is no match.
    pub fn address_on(&self, screen: &str) -> anyhow::Result<String> {
        let pattern = self.provider.sign_in.url.as_deref().context("sign_in.url is not set")?;
        let found = Regex::new(pattern)?.find_iter(screen).last().map(|found| found.as_str().to_owned());
        found.with_context(|| format!("sign_in.url is not on the screen:\n{screen}"))
    }

    /// The credential by the descriptor's rules; waits until a file is whole.
    ///
    /// # Errors
    /// There is none in time.
    pub async fn credential(&self) -> anyhow::Result<Written> {
        within("the credential is whole", || self.written()).await
    }

    /// The credential, if a whole one is there.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn written(&self) -> anyhow::Result<Option<Written>> {
        for path in &self.provider.credential.paths {
            let whole = self.home().join(path);
            let Ok(text) = fs::read_to_string(&whole) else { continue };
            if is_whole(&text, &self.provider.credential)? {
                let mode = fs::metadata(&whole)?.permissions().mode() & 0o7777;
                return Ok(Some(Written { path: path.clone(), text, mode }));
            }
        }
        Ok(None)
    }

    /// Runs the descriptor's status command: exit code and what it printed, both streams.
    ///
    /// # Errors
    /// There is no such command, or it does not end in time.
    pub async fn status(&self, clis: &InstalledTools) -> anyhow::Result<(Option<i32>, String)> {
        let argv = clis.found(&self.provider.credential.status_argv)?;
        terminal::output(&argv, &self.home(), &self.env).await
    }

    /// Names that the tool reached or tried to reach, in order, each `name:port`.
    pub fn reached(&self) -> Vec<String> {
        self.proxy.reached()
    }

    /// Names that it tried to reach although the descriptor does not let it.
    pub fn not_granted(&self) -> Vec<String> {
        let granted = |place: &String| {
            let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
            let port = port.parse().unwrap_or(0);
            self.provider.egress.iter().any(|rule: &EgressRule| rule.grants(host, port))
        };
        self.reached().into_iter().filter(|place| !granted(place)).collect()
    }

    /// The socket of the terminal's tmux: a person may attach to it and type.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("tmux.sock")
    }

    /// The exit code, if it has ended.
    ///
    /// # Errors
    /// What was noted is none.
    pub fn ended(&self) -> anyhow::Result<Option<i32>> {
        self.terminal.exit()
    }

    /// The descriptor that it was started by.
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The tool's home.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Ends it, with all it started.
    ///
    /// # Errors
    /// Something of it lives on.
    pub async fn finish(self) -> anyhow::Result<()> {
        let Self { terminal, proxy, dir, .. } = self;
        terminal.finish().await?;
        drop(proxy);
        let leaks = crate::Leaks::for_dir(dir.path());
        let gone = || Ok(leaks.processes().is_empty().then_some(()));
        within("all it started is gone", gone).await.with_context(|| format!("{:?}", leaks.processes()))
    }
}

fn is_whole(text: &str, rules: &CredentialRules) -> anyhow::Result<bool> {
    if rules.format == FileFormat::Text {
        return Ok(Regex::new(rules.text_matches.as_deref().unwrap_or_default())?.is_match(text));
    }
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let there = |pointer: &String| {
        let found = value.pointer(pointer);
        found.is_some_and(|found| found.is_number() || found.as_str().is_some_and(|text| !text.is_empty()))
    };
    Ok(rules.required.iter().all(there))
}

/// What the tool finds in its environment: the machine's own names, then the descriptor's, then the test's.
fn environment(dir: &Path, start: &Start<'_>, proxy: &str) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (shims, address) = (dir.join("shims"), proxy.to_owned());
    let mut env: BTreeMap<String, String> = [
        ("HOME", text(&dir.join("home"))),
        ("PATH", format!("{}:{}:/usr/bin:/bin", shims.display(), start.clis.path())),
        // The home is no temporary place to a tool that looks, as it is none in a machine.
        ("TMPDIR", text(&dir.join("tmp"))),
        ("LANG", "C.UTF-8".to_owned()),
        ("COLORTERM", "truecolor".to_owned()),
        ("BROWSER", text(&shims.join("browser"))),
        // A machine has a desktop; the tools only look whether the name is set.
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

/// Looks until there is something.
async fn within<T>(what: &str, look: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let by = Instant::now() + STEP;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(Instant::now() < by, "not in time: {what}");
        tokio::time::sleep(EVERY).await;
    }
}

//! The machine's Chromium: started once before the claim, then frozen below the terminal, and thawed when a URL is to be opened. URLs are
//! opened through the DevTools pipe (a second `chromium URL` takes many seconds under emulation).
//!
//! ```text
//!  started ─▶ window visible, page open ─▶ terminal raised ─▶ frozen (unless claimed) ─▶ URL: thawed, new page, raised
//! ```
//!
//! The browser reports each page that replaces another, with its address, once it has got the page's first bytes (or shows its own error page for
//! the address). Nothing else is known of a page: the image's policy forbids attaching to it.
//!
//! A tool calls its `BROWSER` once. So a URL that arrives while the browser is down or is about to exit is kept for the next browser
//! process, and a URL that could not be opened at all is reported.

mod authorities;
mod page;

use super::{
    devtools::{DevTools, DevToolsError},
    display, user_namespaces,
};
use crate::{
    channel::event_queue::EventQueue,
    log,
    platform::{
        backoff::RestartBackoff,
        child_output::ChildOutput,
        crash_loop::CrashTracker,
        environment::{ExecutionEnvironment, RunMode},
        process::{self, drop_privileges, input_pipe, output_pipe},
        program_supervisor::ProcessSupervisor,
        readiness::Readiness,
    },
    sign_in::active_claim::ClaimSlot,
};
use anteroom_wire::agent::{BrowserPage, Stage};
use anyhow::Context;
use page::page_host;
use serde_json::{Value, json};
use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{FromRawFd, IntoRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, watch};

/// The first answer of a browser, emulated and on a busy host.
const START_MS_MAX: u64 = 240_000;
const OPEN_MS_MAX: u64 = 30_000;
/// How long a URL waits for a browser that opens it: a browser that exited has to be restarted first.
const NAVIGATE_MS_MAX: u64 = 2 * START_MS_MAX;
/// Pause between two attempts with a browser that is about to exit, milliseconds: in this time its exit is detected.
const NAVIGATE_AGAIN_MS: u64 = 250;
/// From the claim until the agent checks whether the user has raised the browser: the viewer's first picture comes first.
const WATCH_AFTER_MS: u64 = 1_500;
const RESTART_MS_MIN: u64 = 500;
const RESTART_MS_MAX: u64 = 30_000;
const STABLE_MS: u64 = 60_000;
/// The browser is idle when it uses less than this share of one processor.
const IDLE_PERCENT: u64 = 8;
/// It has settled after this many idle samples in a row.
const IDLE_SAMPLES: u32 = 3;
const SAMPLE_EVERY_MS: u64 = 500;
const SETTLE_MS_MAX: u64 = 60_000;
/// Pages that wait to be reported.
const PAGES_MAX: usize = 16;
/// Pause between two reports of pages: a page may replace itself without end.
const REPORT_PAGE_EVERY_MS: u64 = 200;
/// The control group of all of Chromium's processes.
const CGROUP: &str = "/sys/fs/cgroup/browser";

/// A handle on the browser.
pub(crate) struct Browser {
    program: PathBuf,
    devtools: watch::Sender<Option<Arc<DevTools>>>,
    /// The blank page of the start, until a URL was opened.
    blank_page: Mutex<Option<String>>,
    /// Whether the running process was asked to open a URL: then it stays in front.
    has_opened_url: AtomicBool,
    /// Whether the browser reports its pages. If not, no page is reported as being opened either.
    reports_pages: AtomicBool,
    /// The page that is opened or shown.
    page: parking_lot::Mutex<Option<BrowserPage>>,
    /// When the certificate authorities of the claim were installed, if there are any.
    authorities_installed_at: OnceLock<tokio::time::Instant>,
    /// Held while a window is raised: two tasks that raise different windows at once would both fail.
    raise_lock: Mutex<()>,
}

impl Browser {
    /// `None`: the image has no browser, or there is no machine.
    pub(crate) fn new(environment: &ExecutionEnvironment) -> Option<Self> {
        match &environment.mode {
            RunMode::Machine { browser: Some(program), .. } => Some(Self {
                program: program.clone(),
                devtools: watch::Sender::new(None),
                blank_page: Mutex::new(None),
                has_opened_url: AtomicBool::new(false),
                reports_pages: AtomicBool::new(false),
                page: parking_lot::Mutex::default(),
                authorities_installed_at: OnceLock::new(),
                raise_lock: Mutex::new(()),
            }),
            RunMode::Machine { browser: None, .. } | RunMode::Process => None,
        }
    }
}

/// Runs the browser process.
pub(crate) struct BrowserProcess<'a> {
    pub(crate) environment: &'a ExecutionEnvironment,
    pub(crate) supervisor: &'a ProcessSupervisor,
    pub(crate) claim: &'a ClaimSlot,
    pub(crate) browser: &'a Browser,
    pub(crate) proxy: SocketAddr,
    pub(crate) events: &'a Arc<EventQueue>,
}

impl BrowserProcess<'_> {
    /// Keeps the browser running, forever.
    pub(crate) async fn keep_running(&self) {
        let mut backoff = RestartBackoff::new(
            Duration::from_millis(RESTART_MS_MIN),
            Duration::from_millis(RESTART_MS_MAX),
            Duration::from_millis(STABLE_MS),
        );
        let tracker = self.supervisor.crash_tracker("chromium", Stage::Browser);
        let readiness = &self.supervisor.readiness;
        loop {
            readiness.wait_ready(Stage::WindowManager).await;
            readiness.wait_ready(Stage::Terminal).await;
            readiness.record_attempt(Stage::Browser);
            let started = Instant::now();
            let output = ChildOutput::default();
            let exit = self.run_once(&tracker, &output).await;
            if let Err(error) = user_namespaces::close() {
                log::write_line(&format!("user namespaces: {error}"));
            }
            self.browser.devtools.send_replace(None);
            tracker.record_exit(&exit, &output);
            tokio::time::sleep(backoff.next_delay(started.elapsed())).await;
        }
    }

    /// Runs the browser until it exits.
    async fn run_once(&self, tracker: &CrashTracker, output: &ChildOutput) -> io::Result<i32> {
        set_frozen(false)?;
        user_namespaces::open()?;
        self.browser.has_opened_url.store(false, Ordering::Relaxed);
        let (read, input) = input_pipe()?;
        let (from, write) = output_pipe()?;
        let mut command = self.command();
        let cgroup = fs::OpenOptions::new().write(true).open(format!("{CGROUP}/cgroup.procs"))?;
        attach_pipes(&mut command, read, write, cgroup.into());
        let mut child = output.spawn(&self.supervisor.processes, &mut command)?;
        tracker.record_start();
        drop(command); // closes its copies of the pipe ends
        let (shown, mut pages) = mpsc::channel(PAGES_MAX);
        // Pages that replace each other faster than they are reported are not shown long enough to be seen.
        let on_event = move |message: &Value| drop(page_host(message).map(|host| shown.try_send(host)));
        let devtools = Arc::new(DevTools::new(input, from, on_event));
        let reporting = async {
            while let Some(host) = pages.recv().await {
                self.browser.report_shown(self.events, host);
                tokio::time::sleep(Duration::from_millis(REPORT_PAGE_EVERY_MS)).await;
            }
            std::future::pending::<io::Result<i32>>().await
        };
        let prepared = async {
            match self.prepare(&devtools).await {
                Ok(()) => {
                    self.supervisor.readiness.set_ready(Stage::Browser);
                    std::future::pending().await
                }
                // A browser that cannot be prepared is stopped and started again.
                Err(error) => io::Error::other(format!("{error:#}")),
            }
        };
        tokio::select! {
            code = child.wait() => Ok(code),
            error = prepared => Err(error),
            never = reporting => never,
        }
    }

    fn command(&self) -> Command {
        let environment = self.environment;
        let mut command = process::new_command(&self.browser.program);
        command.envs(environment.program_env(None)).current_dir(&environment.home);
        command.args([
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-gpu",
            "--disable-crash-reporter",
            "--disable-breakpad",
            "--disable-session-crashed-bubble",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-component-extensions-with-background-pages",
            "--disable-domain-reliability",
            "--no-pings",
            "--disable-features=Translate,MediaRouter,OptimizationHints",
            "--password-store=basic",
            "--start-maximized",
            "--remote-debugging-pipe",
            // With that pipe, pages read that a program drives the browser (`navigator.webdriver`), and account services refuse it.
            // A person drives it: the pipe opens pages and reports which one is shown.
            "--disable-blink-features=AutomationControlled",
        ]);
        command.arg(format!("--user-data-dir={}", environment.home.join(".config/anteroom-browser").display()));
        command.arg(format!("--proxy-server=http://127.0.0.1:{}", self.proxy.port()));
        command.arg("about:blank");
        drop_privileges(&mut command, environment);
        command
    }

    /// Waits until the browser has a page and a window. Before the claim it also waits until the browser is idle. Then the terminal is
    /// raised and the browser frozen.
    async fn prepare(&self, devtools: &Arc<DevTools>) -> anyhow::Result<()> {
        devtools.call("Browser.getVersion", json!({}), START_MS_MAX).await?;
        let pages = json!({ "discover": true, "filter": [{ "type": "page" }] });
        match devtools.call("Target.setDiscoverTargets", pages, START_MS_MAX).await {
            Ok(_) => self.browser.reports_pages.store(true, Ordering::Relaxed),
            Err(DevToolsError::Closed) => return Err(DevToolsError::Closed.into()),
            Err(error) => log::write_line(&format!("pages are not reported: {error}")),
        }
        display::wait_window(&self.supervisor.readiness, Stage::Browser, display::is_browser).await;
        *self.browser.blank_page.lock().await = find_page(devtools).await?;
        user_namespaces::close()?;
        self.browser.devtools.send_replace(Some(devtools.clone()));
        if self.claim.current().is_none() {
            wait_idle().await?;
        }
        let lowered = self.browser.lower(display::raise_terminal).await;
        if self.claim.current().is_some() {
            // The user may be using the browser by now: it is not stopped because of the order of windows.
            if let Err(error) = lowered {
                log::write_line(&format!("browser: {error:#}"));
            }
        } else if lowered? {
            set_frozen(true)?;
            // The machine may have been claimed in between, and a URL opened.
            if self.claim.current().is_some() {
                set_frozen(false)?;
            }
        }
        Ok(())
    }
}

/// Chromium reads commands from file descriptor 3 and answers on 4. The child joins the control group before it executes Chromium, so
/// that the group contains all of its processes.
fn attach_pipes(command: &mut Command, read: OwnedFd, write: OwnedFd, cgroup: OwnedFd) {
    let prepare = move || {
        rustix::io::write(&cgroup, b"0")?;
        for (from, to) in [(&read, 3), (&write, 4)] {
            // SAFETY: nothing in the child owns 3 and 4: in the agent they belong to the async runtime, and exec closes them.
            #[expect(unsafe_code, reason = "dup2 onto a fixed number")]
            let mut target = unsafe { OwnedFd::from_raw_fd(to) };
            let done = rustix::io::dup2(from, &mut target);
            // It must stay open for Chromium.
            let _ = target.into_raw_fd();
            done?;
        }
        Ok(())
    };
    // SAFETY: only system calls that are safe between fork and exec.
    #[expect(unsafe_code, reason = "only pre_exec can set descriptors in the child")]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Waits until the browser uses almost no processor time: the first paint and the work of the first start are done.
async fn wait_idle() -> anyhow::Result<()> {
    let started = Instant::now();
    let mut idle_samples = 0;
    let mut before = cpu_time_us()?;
    while idle_samples < IDLE_SAMPLES && started.elapsed() < Duration::from_millis(SETTLE_MS_MAX) {
        tokio::time::sleep(Duration::from_millis(SAMPLE_EVERY_MS)).await;
        let now = cpu_time_us()?;
        let percent = now.saturating_sub(before) / (SAMPLE_EVERY_MS * 10);
        idle_samples = if percent < IDLE_PERCENT { idle_samples + 1 } else { 0 };
        before = now;
    }
    log::write_line(&format!("browser settled after {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// Processor time of all browser processes, microseconds (cgroup v2 `cpu.stat`).
fn cpu_time_us() -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("{CGROUP}/cpu.stat"))?;
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(used.context("cpu.stat has no usage_usec")?.parse()?)
}

/// The id of the first page.
async fn find_page(devtools: &DevTools) -> Result<Option<String>, DevToolsError> {
    let targets = devtools.call("Target.getTargets", json!({}), START_MS_MAX).await?;
    let mut pages = targets["targetInfos"].as_array().into_iter().flatten().filter(|page| page["type"] == "page");
    Ok(pages.find_map(|page| page["targetId"].as_str()).map(str::to_owned))
}

/// The user may raise the browser before any URL is opened: then it is thawed, once.
pub(crate) async fn thaw_when_in_front(claim: &ClaimSlot, readiness: &Readiness) {
    claim.wait_claimed().await;
    // A browser that is raised in the meantime is detected by the first check.
    tokio::time::sleep(Duration::from_millis(WATCH_AFTER_MS)).await;
    loop {
        readiness.wait_ready(Stage::Browser).await;
        match display::wait_browser_in_front().await.and_then(|()| Ok(set_frozen(false)?)) {
            Ok(()) => return,
            Err(error) => log::write_line(&format!("browser: {error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(RESTART_MS_MIN)).await;
    }
}

/// Opens `url`, whose host is `host`, in front of all windows, and reports the result as an event.
pub(crate) async fn open_url(
    browser: Option<&Browser>,
    events: &EventQueue,
    url: &str,
    host: &str,
) -> anyhow::Result<()> {
    let Some(browser) = browser else { anyhow::bail!("this machine has no browser") };
    let raise = || async {
        set_frozen(false)?;
        display::raise_browser().await
    };
    browser.wait_authorities().await;
    let opened = browser.navigate(url, Duration::from_millis(NAVIGATE_MS_MAX), raise).await;
    if let Err(error) = &opened {
        browser.report_not_opened(events, host, error);
    }
    opened
}

/// Why a browser process did not open a URL.
enum NavigationError {
    /// The process is about to exit, or its window is not visible: it or the next process may open the URL.
    Unavailable(anyhow::Error),
    /// It got the URL and did not open it.
    Rejected(anyhow::Error),
}

impl From<DevToolsError> for NavigationError {
    fn from(error: DevToolsError) -> Self {
        match error {
            DevToolsError::Closed => Self::Unavailable(error.into()),
            DevToolsError::Timeout(_) | DevToolsError::Rejected { .. } => Self::Rejected(error.into()),
        }
    }
}

impl Browser {
    /// Opens the URL in the running browser process, or in the next one if that process exits first. `raise` raises the browser's
    /// window, so that the user sees at once that something happens.
    ///
    /// # Errors
    /// No browser opened the URL within `limit`, or one rejected it.
    async fn navigate<F, Fut>(&self, url: &str, limit: Duration, raise: F) -> anyhow::Result<()>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let until = tokio::time::Instant::now() + limit;
        let mut last = anyhow::anyhow!("it was not up within {} ms", limit.as_millis());
        loop {
            let mut running = self.devtools.subscribe();
            let Ok(devtools) = tokio::time::timeout_at(until, running.wait_for(Option::is_some)).await else {
                return Err(last);
            };
            let devtools = devtools?.clone().context("the browser has exited")?;
            match self.try_navigate(&devtools, url, &raise).await {
                Ok(()) => return Ok(()),
                Err(NavigationError::Rejected(error)) => return Err(error),
                Err(NavigationError::Unavailable(error)) => last = error,
            }
            if tokio::time::Instant::now() + Duration::from_millis(NAVIGATE_AGAIN_MS) >= until {
                return Err(last);
            }
            tokio::time::sleep(Duration::from_millis(NAVIGATE_AGAIN_MS)).await;
        }
    }

    /// Lowers the browser's window below the terminal, unless the browser was asked to open a URL. `raise` raises the terminal.
    /// Returns whether the browser was lowered.
    async fn lower<F, Fut>(&self, raise: F) -> anyhow::Result<bool>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let _raising = self.raise_lock.lock().await;
        if self.has_opened_url.load(Ordering::Relaxed) {
            return Ok(false);
        }
        raise().await.map(|()| true)
    }

    /// Opens the URL in one browser process.
    async fn try_navigate<F, Fut>(&self, devtools: &DevTools, url: &str, raise: &F) -> Result<(), NavigationError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        self.has_opened_url.store(true, Ordering::Relaxed);
        let raising = self.raise_lock.lock().await;
        raise().await.map_err(NavigationError::Unavailable)?;
        drop(raising);
        // A new page: the image's policy forbids attaching to pages, so that users cannot open the developer tools.
        devtools.call("Target.createTarget", json!({ "url": url }), OPEN_MS_MAX).await?;
        if let Some(page) = self.blank_page.lock().await.take() {
            devtools.call("Target.closeTarget", json!({ "targetId": page }), OPEN_MS_MAX).await?;
        }
        Ok(())
    }
}

/// Freezes or thaws every process of the browser (cgroup v2 `cgroup.freeze`).
fn set_frozen(frozen: bool) -> io::Result<()> {
    fs::create_dir_all(CGROUP)?;
    fs::write(format!("{CGROUP}/cgroup.freeze"), if frozen { "1" } else { "0" })
}

#[cfg(test)]
mod tests;

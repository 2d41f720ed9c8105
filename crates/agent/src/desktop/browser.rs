//! The machine's Chromium: started once, before anybody owns the machine, then frozen below the terminal; thawed when an
//! address is to be opened, through the DevTools pipe (a second `chromium URL` takes many seconds under emulation).
//!
//! ```text
//!  started ─▶ window shown, page there ─▶ terminal raised ─▶ frozen (unless claimed) ─▶ open: thawed, new page, raised
//! ```
//!
//! An address that comes while the browser is away, or is just dying, is kept and given to the next one: a tool calls its `BROWSER`
//! once. What could not be opened in the end is told.

use crate::{
    agent::Agent,
    backoff::Backoff,
    children,
    devtools::{DevTools, DevToolsError},
    display,
    ends::Ends,
    events::{Events, bounded},
    log,
    place::{Kind, Place},
    supervisor::{Output, become_person},
};
use anteroom_wire::agent::{Event, Stage};
use anyhow::Context;
use serde_json::json;
use std::{
    fs, io,
    os::{
        fd::{FromRawFd, IntoRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, watch};

/// Its first answer, emulated and on a busy host.
const START_MS_MAX: u64 = 240_000;
const OPEN_MS_MAX: u64 = 30_000;
/// How long an address waits for a browser that takes it: one that ended is started again and has to come up.
const TAKEN_MS_MAX: u64 = 2 * START_MS_MAX;
/// Between two tries to give an address to a browser that is going, milliseconds: that it has gone is noticed meanwhile.
const AGAIN_MS: u64 = 250;
/// From the claim until the agent looks whether somebody reached for the browser: the first picture goes before.
const FRONT_AFTER_MS: u64 = 1_500;
const RESTART_MS_MIN: u64 = 500;
const RESTART_MS_MAX: u64 = 30_000;
const HELD_MS: u64 = 60_000;
/// Less than this much of one processor is calm.
const CALM_PERCENT: u64 = 8;
/// So many calm looks in a row are settled.
const CALM_LOOKS: u32 = 3;
const CALM_EVERY_MS: u64 = 500;
const SETTLE_MS_MAX: u64 = 60_000;
/// The control group that holds all of Chromium's processes.
const GROUP: &str = "/sys/fs/cgroup/browser";

/// A handle on the browser.
pub(crate) struct Browser {
    program: PathBuf,
    tools: watch::Sender<Option<Arc<DevTools>>>,
    /// The blank page that it was started with, until an address was opened.
    blank: Mutex<Option<String>>,
    /// Whether this process was asked to open anything: then it stays in front.
    opened: AtomicBool,
    /// Held while a window is being raised: two who raise each their own would both fail.
    raising: Mutex<()>,
}

impl Browser {
    /// Where this image has one.
    pub(crate) fn new(place: &Place) -> Option<Self> {
        match &place.kind {
            Kind::Machine { browser: Some(program), .. } => Some(Self {
                program: program.clone(),
                tools: watch::Sender::new(None),
                blank: Mutex::new(None),
                opened: AtomicBool::new(false),
                raising: Mutex::new(()),
            }),
            Kind::Machine { browser: None, .. } | Kind::Process => None,
        }
    }
}

/// Keeps the browser up, for ever.
pub(crate) async fn keep(agent: Arc<Agent>) {
    let Some(browser) = &agent.browser else { return };
    let mut backoff = Backoff::new(
        Duration::from_millis(RESTART_MS_MIN),
        Duration::from_millis(RESTART_MS_MAX),
        Duration::from_millis(HELD_MS),
    );
    let ends = Ends::new("chromium", Stage::Browser);
    loop {
        agent.stages.reached(Stage::WindowManager).await;
        agent.stages.reached(Stage::Terminal).await;
        agent.stages.trying(Stage::Browser);
        let started = Instant::now();
        let output = Output::default();
        let ended = run(&agent, browser, &ends, &output).await;
        browser.tools.send_replace(None);
        ends.tell(&agent, &ended, &output);
        tokio::time::sleep(backoff.after(started.elapsed())).await;
    }
}

/// One life of the browser.
async fn run(agent: &Agent, browser: &Browser, ends: &Ends, output: &Output) -> io::Result<i32> {
    set_frozen(false)?;
    browser.opened.store(false, Ordering::Relaxed);
    let (read, input) = children::input_pipe()?;
    let (from, write) = children::output_pipe()?;
    let mut command = command(agent, browser);
    give_pipe(
        &mut command,
        read,
        write,
        fs::OpenOptions::new().write(true).open(format!("{GROUP}/cgroup.procs"))?.into(),
    );
    let mut child = output.capture(&agent.children, &mut command)?;
    ends.up();
    drop(command); // its copies of the pipe ends
    let tools = Arc::new(DevTools::new(input, from));
    let prepared = async {
        match prepare(agent, browser, &tools).await {
            Ok(()) => {
                agent.stages.ready(Stage::Browser);
                std::future::pending().await
            }
            // What cannot be prepared is ended and started again.
            Err(error) => io::Error::other(format!("{error:#}")),
        }
    };
    tokio::select! {
        code = child.wait() => Ok(code),
        error = prepared => Err(error),
    }
}

fn command(agent: &Agent, browser: &Browser) -> Command {
    let place = &agent.place;
    let mut command = children::command(&browser.program);
    command.envs(place.environment(None)).current_dir(&place.home);
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
    ]);
    command.arg(format!("--user-data-dir={}", place.home.join(".config/anteroom-browser").display()));
    command.arg(format!("--proxy-server=http://127.0.0.1:{}", agent.proxy.port()));
    command.arg("about:blank");
    become_person(&mut command, place);
    command
}

/// Chromium reads commands on descriptor 3 and answers on 4. It joins its control group before it is Chromium, so that
/// no process of it is ever outside.
fn give_pipe(command: &mut Command, read: OwnedFd, write: OwnedFd, group: OwnedFd) {
    let place = move || {
        rustix::io::write(&group, b"0")?;
        for (from, to) in [(&read, 3), (&write, 4)] {
            // SAFETY: 3 and 4 belong to nobody in the child: in the agent they are the reactor's, closed by exec.
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
    #[expect(unsafe_code, reason = "pre_exec is the only way to place descriptors in the child")]
    unsafe {
        command.pre_exec(place);
    }
}

/// Waits until the browser has a page and a window. Before the claim it may then paint in peace; in the end the terminal
/// stands before it and it is frozen.
async fn prepare(agent: &Agent, browser: &Browser, tools: &Arc<DevTools>) -> anyhow::Result<()> {
    tools.call("Browser.getVersion", json!({}), START_MS_MAX).await?;
    display::window_shown(agent, Stage::Browser, display::is_browser).await;
    *browser.blank.lock().await = blank_page(tools).await?;
    browser.tools.send_replace(Some(tools.clone()));
    if agent.claim_now().is_none() {
        settled().await?;
    }
    let put_behind = browser.put_behind(display::raise_terminal).await;
    if agent.claim_now().is_some() {
        // Somebody may be using it by now: whatever stands in front, it is not ended for it.
        if let Err(error) = put_behind {
            log::line(&format!("browser: {error:#}"));
        }
    } else if put_behind? {
        set_frozen(true)?;
        // A claim in between may have opened an address already.
        if agent.claim_now().is_some() {
            set_frozen(false)?;
        }
    }
    Ok(())
}

/// Waits until the browser uses next to no processor time: what it paints first, and what it does once, is done.
async fn settled() -> anyhow::Result<()> {
    let started = Instant::now();
    let mut calm = 0;
    let mut before = used_us()?;
    while calm < CALM_LOOKS && started.elapsed() < Duration::from_millis(SETTLE_MS_MAX) {
        tokio::time::sleep(Duration::from_millis(CALM_EVERY_MS)).await;
        let now = used_us()?;
        let percent = now.saturating_sub(before) / (CALM_EVERY_MS * 10);
        calm = if percent < CALM_PERCENT { calm + 1 } else { 0 };
        before = now;
    }
    log::line(&format!("browser settled after {} ms", started.elapsed().as_millis()));
    Ok(())
}

/// Processor time of all its processes, microseconds (cgroup v2 `cpu.stat`).
fn used_us() -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("{GROUP}/cpu.stat"))?;
    let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    Ok(used.context("cpu.stat has no usage_usec")?.parse()?)
}

async fn blank_page(tools: &DevTools) -> Result<Option<String>, DevToolsError> {
    let targets = tools.call("Target.getTargets", json!({}), START_MS_MAX).await?;
    let mut pages = targets["targetInfos"].as_array().into_iter().flatten().filter(|page| page["type"] == "page");
    Ok(pages.find_map(|page| page["targetId"].as_str()).map(str::to_owned))
}

/// A person may reach for the browser before any address is opened: then it is thawed, once.
pub(crate) async fn watch_front(agent: Arc<Agent>) {
    if agent.browser.is_none() {
        return;
    }
    agent.claimed().await;
    // What happens in between is seen by the first look.
    tokio::time::sleep(Duration::from_millis(FRONT_AFTER_MS)).await;
    loop {
        agent.stages.reached(Stage::Browser).await;
        match display::browser_in_front().await.and_then(|()| Ok(set_frozen(false)?)) {
            Ok(()) => return,
            Err(error) => log::line(&format!("browser: {error:#}")),
        }
        tokio::time::sleep(Duration::from_millis(RESTART_MS_MIN)).await;
    }
}

/// Opens `url` (whose host is `host`) in front of everything, and tells whether that was done.
pub(crate) async fn open(agent: &Agent, url: &str, host: &str) -> anyhow::Result<()> {
    let Some(browser) = &agent.browser else { anyhow::bail!("this machine has no browser") };
    let in_front = || async {
        set_frozen(false)?;
        display::raise_browser().await
    };
    let opened = browser.give(url, Duration::from_millis(TAKEN_MS_MAX), in_front).await;
    tell(&agent.events, host, &opened);
    opened
}

fn tell(events: &Events, host: &str, opened: &anyhow::Result<()>) {
    let host = host.to_owned();
    events.push(match opened {
        Ok(()) => Event::BrowserOpened { host },
        Err(error) => Event::BrowserNotOpened { host, why: bounded(&format!("{error:#}")) },
    });
}

/// Why one browser did not take an address.
enum NotTaken {
    /// It is going, or its window is not there: it or the next one may take it.
    Away(anyhow::Error),
    /// It has the address and does not show it.
    Refused(anyhow::Error),
}

impl From<DevToolsError> for NotTaken {
    fn from(error: DevToolsError) -> Self {
        match error {
            DevToolsError::Closed => Self::Away(error.into()),
            DevToolsError::Slow(_) | DevToolsError::Refused { .. } => Self::Refused(error.into()),
        }
    }
}

impl Browser {
    /// Gives the address to the browser that runs, and if that one goes before it has taken it, to the next. `in_front` raises the
    /// browser's window: the person sees at once that something happens.
    ///
    /// # Errors
    /// Within `limit` no browser took it, or one refused it.
    async fn give<F, Fut>(&self, url: &str, limit: Duration, in_front: F) -> anyhow::Result<()>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let until = tokio::time::Instant::now() + limit;
        let mut last = anyhow::anyhow!("it was not up within {} ms", limit.as_millis());
        loop {
            let mut running = self.tools.subscribe();
            let Ok(tools) = tokio::time::timeout_at(until, running.wait_for(Option::is_some)).await else {
                return Err(last);
            };
            let tools = tools?.clone().context("the browser went")?;
            match self.take(&tools, url, &in_front).await {
                Ok(()) => return Ok(()),
                Err(NotTaken::Refused(error)) => return Err(error),
                Err(NotTaken::Away(error)) => last = error,
            }
            if tokio::time::Instant::now() + Duration::from_millis(AGAIN_MS) >= until {
                return Err(last);
            }
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }

    /// Lets the terminal stand before it, unless an address was given to it: whether it does. `raise` raises the terminal.
    async fn put_behind<F, Fut>(&self, raise: F) -> anyhow::Result<bool>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let _alone = self.raising.lock().await;
        if self.opened.load(Ordering::Relaxed) {
            return Ok(false);
        }
        raise().await.map(|()| true)
    }

    /// One try.
    async fn take<F, Fut>(&self, tools: &DevTools, url: &str, in_front: &F) -> Result<(), NotTaken>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        self.opened.store(true, Ordering::Relaxed);
        let raising = self.raising.lock().await;
        in_front().await.map_err(NotTaken::Away)?;
        drop(raising);
        // A page of its own: the image's policy forbids to attach to pages, and so a person to open the developer tools.
        tools.call("Target.createTarget", json!({ "url": url }), OPEN_MS_MAX).await?;
        if let Some(blank) = self.blank.lock().await.take() {
            tools.call("Target.closeTarget", json!({ "targetId": blank }), OPEN_MS_MAX).await?;
        }
        Ok(())
    }
}

/// Stops or continues every process of the browser (cgroup v2 `cgroup.freeze`).
fn set_frozen(frozen: bool) -> io::Result<()> {
    fs::create_dir_all(GROUP)?;
    fs::write(format!("{GROUP}/cgroup.freeze"), if frozen { "1" } else { "0" })
}

#[cfg(test)]
mod tests;

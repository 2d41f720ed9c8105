//! Watches for the credential and delivers it.
//!
//! ```text
//!  waiting ─▶ whole file ─▶ stable? ─▶ status command agrees? ─▶ delivering ─▶ delivered
//!     ▲───────── no ◀─────────┴────────────────┘                    │ 5xx, no answer: again, for ever
//!     ▲──────── the file changes once more ◀── refused (4xx) ◀──────┘
//! ```

use crate::{
    agent::Agent,
    backoff::Backoff,
    claim::Owner,
    credential::{self, Look, Seen},
    events::bounded,
    host,
    supervisor::{self, Output},
    watched::watched,
};
use anteroom_wire::{
    Base64, ProblemBody,
    agent::{CaptureState, Delivered, DeliveredFile, Delivery, Event, STORE_PATH},
};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{Interest, unix::AsyncFd};

/// The backstop: a look without any event.
const LOOK_EVERY_MS: u64 = 1_000;
/// Between two runs of a status command that did not agree.
const STATUS_EVERY_MS: u64 = 2_000;

/// How a delivery ended.
enum Outcome {
    Done,
    Refused,
    /// The file changed meanwhile: what was read is worth less than what is there now.
    Superseded,
}

/// What the watch remembers from look to look.
#[derive(Default)]
struct Memory {
    /// Path → cause told last.
    told: HashMap<String, String>,
    /// Refused by the controller: not to be sent again.
    refused: Option<[u8; 32]>,
    /// The status command did not agree about this content at this time.
    disagreed: Option<([u8; 32], Instant)>,
}

/// Watches from the claim on until the credential was delivered.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let owner = agent.claimed().await;
    let mut memory = Memory::default();
    let changes = Changes::new().ok();
    loop {
        if let Some(changes) = &changes {
            for path in &owner.claim.provider.credential.paths {
                changes.watch_near(&agent.place.home, &agent.place.home.join(path));
            }
        }
        if let Some((path, seen)) = candidate(&agent, &owner, &mut memory).await
            && status_agrees(&agent, &owner, &path, &seen, &mut memory).await
        {
            let bytes = u64::try_from(seen.bytes.len()).unwrap_or(u64::MAX);
            agent.events.push(Event::CandidateAccepted { path: path.clone(), bytes });
            memory.told.clear();
            match deliver(&agent, &owner, &path, &seen).await {
                Outcome::Done => return,
                Outcome::Refused => memory.refused = Some(seen.stamp.digest),
                Outcome::Superseded => continue,
            }
        }
        let wait = Duration::from_millis(LOOK_EVERY_MS);
        match &changes {
            Some(changes) => drop(tokio::time::timeout(wait, changes.next()).await),
            None => tokio::time::sleep(wait).await,
        }
    }
}

fn look(agent: &Agent, owner: &Owner, at: usize) -> Look {
    let rules = &owner.claim.provider.credential;
    let path = agent.place.home.join(&rules.paths[at]);
    let before = owner.before.get(&rules.paths[at]).cloned().unwrap_or_default();
    credential::look(&path, rules, owner.claim.capture.file_bytes_max, &before, owner.claimed_at)
}

/// The first path that holds a whole credential which has been stable. Rejections are told once per cause, and only when
/// they too are stable: a file is often half-written for a moment.
async fn candidate(agent: &Agent, owner: &Owner, memory: &mut Memory) -> Option<(String, Seen)> {
    let paths = &owner.claim.provider.credential.paths;
    let first: Vec<Look> = (0..paths.len()).map(|at| look(agent, owner, at)).collect();
    if first.iter().all(|look| matches!(look, Look::Absent)) {
        return None;
    }
    tokio::time::sleep(Duration::from_millis(owner.claim.capture.stable_ms)).await;
    for (at, first) in first.into_iter().enumerate() {
        match (first, look(agent, owner, at)) {
            (Look::Whole(first), Look::Whole(again)) if first.stamp == again.stamp => {
                if memory.refused != Some(again.stamp.digest) {
                    return Some((paths[at].clone(), again));
                }
            }
            (Look::Rejected(first), Look::Rejected(again)) if first == again => {
                reject(agent, memory, &paths[at], again);
            }
            (Look::Whole(_) | Look::Rejected(_) | Look::Absent, _) => {}
        }
    }
    None
}

fn reject(agent: &Agent, memory: &mut Memory, path: &str, why: String) {
    if memory.told.get(path) != Some(&why) {
        memory.told.insert(path.to_owned(), why.clone());
        agent.board.capture(CaptureState::Rejected { path: path.to_owned(), why: why.clone() });
        agent.events.push(Event::CandidateRejected { path: path.to_owned(), why });
    }
}

/// Runs the tool's own status command, where it has one.
async fn status_agrees(agent: &Agent, owner: &Owner, path: &str, seen: &Seen, memory: &mut Memory) -> bool {
    let rules = &owner.claim.provider.credential;
    if rules.status_argv.is_empty() {
        return true;
    }
    if let Some((digest, at)) = memory.disagreed
        && digest == seen.stamp.digest
        && at.elapsed() < Duration::from_millis(STATUS_EVERY_MS)
    {
        return false;
    }
    let why = match status(agent, owner).await {
        Ok((0, text)) if owner.status.as_ref().is_none_or(|pattern| pattern.is_match(&text)) => return true,
        Ok((0, _)) => "the tool's status command does not say that it is signed in".to_owned(),
        Ok((code, _)) => format!("the tool's status command ended with {code}"),
        Err(error) => format!("the tool's status command did not run: {}", error.kind()),
    };
    memory.disagreed = Some((seen.stamp.digest, Instant::now()));
    reject(agent, memory, path, why);
    false
}

async fn status(agent: &Agent, owner: &Owner) -> io::Result<(i32, String)> {
    let argv = &owner.claim.provider.credential.status_argv;
    let [program, args @ ..] = &argv[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let start = agent.tool_start(&owner.claim.provider);
    let mut command = crate::children::command(supervisor::find_program(program, &agent.place.path));
    command.args(args).envs(&start.env).current_dir(&start.dir);
    supervisor::become_person(&mut command, &agent.place);
    let output = Output::default();
    let mut child = output.capture(&agent.children, &mut command)?;
    let limit = Duration::from_millis(owner.claim.capture.status_ms_max);
    // Dropped at the limit, which kills it.
    let code = tokio::time::timeout(limit, child.wait()).await?;
    output.ended(limit).await;
    Ok((code, output.last_lines().join("\n")))
}

/// Posts the file until the controller answers. The bytes stay in memory meanwhile, whatever becomes of the file.
async fn deliver(agent: &Agent, owner: &Owner, path: &str, seen: &Seen) -> Outcome {
    let claim = &owner.claim;
    let delivery = Delivery {
        session: claim.by.session.clone(),
        generation: claim.by.generation,
        provider: claim.provider.id.clone(),
        files: vec![DeliveredFile { path: path.to_owned(), mode: seen.mode, content: Base64::new(seen.bytes.clone()) }],
    };
    let (min, max) =
        (Duration::from_millis(claim.capture.retry_ms_min), Duration::from_millis(claim.capture.retry_ms_max));
    let mut backoff = Backoff::new(min, max, Duration::MAX);
    let mut attempts = 0;
    let mut last_error = None;
    loop {
        agent.board.capture(CaptureState::Delivering { attempts, last_error: last_error.clone() });
        agent.host.connected().await;
        let mut changes = agent.host.changes();
        changes.mark_unchanged();
        attempts += 1;
        let error = match agent.host.post(STORE_PATH, &claim.agent_token, &delivery).await {
            Ok((status, body)) if status.is_success() => match host::json::<Delivered>(&body) {
                Some(Delivered::Stored { .. } | Delivered::Ignored) => {
                    agent.board.capture(CaptureState::Delivered);
                    return Outcome::Done;
                }
                None => format!("{status} with an answer that is none"),
            },
            Ok((status, body)) if status.is_client_error() && !matches!(status.as_u16(), 408 | 429) => {
                let problem = host::json::<ProblemBody>(&body);
                let code = problem.map_or_else(|| status.as_u16().to_string(), |problem| problem.code);
                agent.board.capture(CaptureState::Refused { code: bounded(&code) });
                return Outcome::Refused;
            }
            Ok((status, _)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        agent.events.push(Event::DeliveryRetry { attempts, error: error.clone() });
        agent.board.capture(CaptureState::Delivering { attempts, last_error: Some(error.clone()) });
        last_error = Some(error);
        // A new connection is a reason to try at once.
        let _ = tokio::time::timeout(backoff.after(Duration::ZERO), changes.changed()).await;
        if superseded(agent, owner, path, seen) {
            return Outcome::Superseded;
        }
    }
}

/// Whether the path now holds another whole credential (a refreshed token makes the old one worthless).
fn superseded(agent: &Agent, owner: &Owner, path: &str, seen: &Seen) -> bool {
    let at = owner.claim.provider.credential.paths.iter().position(|known| known == path);
    at.is_some_and(|at| match look(agent, owner, at) {
        Look::Whole(now) => now.stamp.digest != seen.stamp.digest,
        Look::Rejected(_) | Look::Absent => false,
    })
}

/// The kernel's word that something changed near the files (inotify).
struct Changes {
    notify: AsyncFd<OwnedFd>,
}

impl Changes {
    fn new() -> io::Result<Self> {
        let notify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { notify: watched(notify, Interest::READABLE)? })
    }

    /// Watches the nearest directory above `path` that exists (again and again: adding twice changes nothing).
    fn watch_near(&self, home: &Path, path: &Path) {
        let dirs = path.ancestors().skip(1).take_while(|dir| dir.starts_with(home));
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ONLYDIR;
        for dir in dirs {
            // Without a watch there is still the backstop.
            if inotify::add_watch(self.notify.get_ref(), dir, flags).is_ok() {
                return;
            }
        }
    }

    async fn next(&self) {
        let Ok(mut ready) = self.notify.readable().await else { return std::future::pending().await };
        let mut events = [0; 4096];
        while rustix::io::read(self.notify.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
}

//! What is so with a session, and why: one verdict, what proves it, and the chain from the session to its credential.
//!
//! ```text
//!  facts, row, timeline ─▶ Input ─▶ diagnose (pure) ─▶ verdict · sentence · remedy · evidence · chain
//! ```
//!
//! More than one thing may be true; the verdict is the first that fits, in this order:
//!
//! 1. **Completed** and **cancelled** are said as such, whatever went before: somebody got, or decided, just that.
//! 2. **Failed**: the recorded reason names the part. When that is the machine, the verdict is how the *last* machine ended
//!    (its `machine_exited` entry, else its receipt); a claim that failed is the cause of the stop that follows it.
//! 3. **Expired**: a deadline is mostly a consequence. No machine was ever asked for: no capacity. Else a fault of the
//!    sign-in (4), if there was one. Else the deadline.
//! 4. **Sign-in** (of the last machine only): a delivery that fails, before a program of the machine that was killed
//!    for want of memory or crashes again and again, before a tool that could not start, before a tool that
//!    ended with an error, before a file that is not whole, before a tool that ended without one, before a way out of which
//!    nothing could be reached. A tool's error is laid to the egress gate only if its last lines name a host that was
//!    refused, or the refusal came at most [`sign_in::BLAME_MS`] before its end: browsers ask for many names that nobody misses.
//! 5. **Living**: not yet open (queued, starting, being replaced, agent away), then (4), then an agent or a desktop that did not answer
//!    the last viewer, and only then: all is well, the person's turn.
//!
//! A session that uses a stored credential has no sign-in: (4) is then what keeps the command from running or its result from arriving,
//! and what the command makes of its work is no fault.
//!
//! [`Verdict::Unknown`] is for a reason that no part of the server gives.

mod active_verdict;
mod causal_chain;
mod credential_use;
mod ended_verdict;
mod external;
mod guest;
mod observation;
mod sign_in;
#[cfg(test)]
mod tests;
mod timeline_view;

use super::{active_session::SessionState, timeline, status::Progress};
use crate::{app::App, clock, api_error::chain as chain_of};
use anteroom_machine::ExitReason;
use anteroom_store::{SessionRow, StoreError, TimelineRow};
use anteroom_wire::{
    SessionId,
    agent::{CaptureState, CliState, Stage},
    diagnosis::{Diagnosis, Evidence, Verdict},
};
pub use external::ExternalMachineConfig;
use std::time::Duration;
use timeline_view::TimelineView;

/// All that a diagnosis is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// When it is looked at, milliseconds since 1970.
    pub now_ms: clock::UnixMs,
    /// The tool's name for people.
    pub tool: &'a str,
    /// The row.
    pub row: &'a SessionRow,
    /// What the owner knows; `None`: the session has no owner here.
    pub now: Option<SupervisorSnapshot>,
    /// The whole timeline, oldest first.
    pub timeline: &'a [TimelineRow],
    /// How the last machine ended, where the timeline does not have it.
    pub receipt: Option<ExitReason>,
    /// What the configuration says of the session's external machine; `None`: it uses machines of this host.
    pub external: Option<ExternalMachineConfig>,
}

/// What the owner knows at the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorSnapshot {
    /// How far the machine is.
    pub place: MachineProgress,
    /// The tool, as the agent told last.
    pub cli: CliState,
    /// The credential, as the agent told last.
    pub capture: CaptureState,
    /// Whether an address or a code to sign in with is known.
    pub signing_in: bool,
    /// Desktop viewers connected.
    pub viewers: u32,
    /// Why the agent of an open machine did not answer just now.
    pub silent: Option<String>,
}

/// How far the machine is: a [`Progress`] without its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineProgress {
    /// Waiting for room.
    Queued {
        /// 1 is next.
        position: u32,
    },
    /// Not ready.
    Preparing {
        /// What it waits for.
        stage: Stage,
    },
    /// Ready, being claimed.
    Claiming,
    /// This session's.
    Open,
    /// Gone; another will be asked for.
    Lost,
    /// Being stopped.
    Closing,
}

impl From<&SessionState> for SupervisorSnapshot {
    fn from(facts: &SessionState) -> Self {
        let place = match &facts.progress {
            Progress::Queued { position } => MachineProgress::Queued { position: *position },
            Progress::Preparing { stage } => MachineProgress::Preparing { stage: *stage },
            Progress::Claiming { .. } => MachineProgress::Claiming,
            Progress::Open { .. } | Progress::Attached => MachineProgress::Open,
            Progress::Lost => MachineProgress::Lost,
            Progress::Closing => MachineProgress::Closing,
        };
        let sign_in = facts.sign_in.clone();
        Self {
            place,
            signing_in: sign_in.is_under_way(),
            cli: sign_in.cli,
            capture: sign_in.capture,
            viewers: facts.viewers,
            silent: None,
        }
    }
}

/// A verdict with its words and what proves it.
#[derive(Debug)]
struct Finding<'a> {
    verdict: Verdict,
    sentence: String,
    proof: Vec<&'a TimelineRow>,
}

impl<'a> Finding<'a> {
    fn new(verdict: Verdict, sentence: impl Into<String>, proof: impl IntoIterator<Item = &'a TimelineRow>) -> Self {
        Self { verdict, sentence: sentence.into(), proof: proof.into_iter().collect() }
    }
}

/// How long the agent may take to say how far the sign-in is, milliseconds.
const ASK_MS_MAX: u64 = 2_000;
/// How long entries that are noted and not written yet may take, milliseconds.
const SETTLE_MS_MAX: u64 = 300;
/// Entries of a timeline that are read at once; more than it can have but for transitions.
const ENTRIES_MAX: u32 = 10_000;
/// Entries that prove a verdict; the cause itself is always among them.
const EVIDENCE_MAX: usize = 40;

/// The session's diagnosis at this moment, without the address of an external machine.
///
/// # Errors
/// The database cannot be read.
pub async fn diagnose(app: &App, id: &SessionId) -> Result<Option<Diagnosis>, StoreError> {
    diagnose_for(app, id, false).await
}

/// As [`look`]; an operator is told where an external machine is.
///
/// # Errors
/// The database cannot be read.
pub async fn diagnose_for(app: &App, id: &SessionId, operator: bool) -> Result<Option<Diagnosis>, StoreError> {
    // The owner's knowledge first: what it closes has its end in the row already.
    let now = match app.sessions.get(id) {
        Some(live) => Some(ask(&live.state()).await),
        None => None,
    };
    // What was noted a moment ago counts; a database in trouble is not waited for.
    let _ = tokio::time::timeout(Duration::from_millis(SETTLE_MS_MAX), timeline::flush(app, id)).await;
    let Some(row) = app.store.session(id).await? else { return Ok(None) };
    let timeline = app.store.timeline(id, 0, ENTRIES_MAX).await?;
    let provider = app.providers.get(&row.provider);
    let tool = provider.map_or_else(|| row.provider.to_string(), |provider| provider.name.clone());
    let receipt = receipt(app, &row, &timeline).await;
    let external = row.external_machine.as_ref().map(|name| {
        let machine = app.external.get(name);
        let address = machine.filter(|_| operator).map(|machine| machine.desktop.to_string());
        ExternalMachineConfig { is_there: machine.is_some(), address }
    });
    let input = Input { now_ms: clock::now(), tool: &tool, row: &row, now, timeline: &timeline, receipt, external };
    let mut diagnosis = evaluate(&input);
    if found.verdict == Verdict::WaitingForCapacity
        && let Some(why) = app.queue.blocked_reason()
    {
        found.sentence = format!("{} Nobody is let in at the moment: {why}.", found.sentence);
    }
    Ok(Some(found))
}

/// What the owner knows, and what the agent says for itself: a database in trouble keeps its events from arriving.
async fn ask(facts: &SessionState) -> SupervisorSnapshot {
    let mut now = SupervisorSnapshot::from(facts);
    let Progress::Open { channels } = &facts.progress else { return now };
    match tokio::time::timeout(Duration::from_millis(ASK_MS_MAX), channels.agent.sign_in()).await {
        Ok(Ok(sign_in)) => {
            now.signing_in |= sign_in.is_under_way();
            (now.cli, now.capture) = (sign_in.cli, sign_in.capture);
        }
        Ok(Err(error)) => now.silent = Some(chain_of(&error)),
        Err(_) => now.silent = Some(format!("no answer in {ASK_MS_MAX} ms")),
    }
    now
}

/// The receipt of the last machine, when the timeline does not say how it ended.
async fn receipt(app: &App, row: &SessionRow, timeline: &[TimelineRow]) -> Option<ExitReason> {
    let machine = row.machine.clone()?;
    if row.is_active() || TimelineView::new(timeline).gone().is_some() {
        return None;
    }
    let machines = app.machines.clone();
    let read = tokio::task::spawn_blocking(move || machines.receipt(&machine)).await;
    Some(read.ok()?.ok()??.reason())
}

/// The verdict, the proof and the chain. Pure.
pub fn evaluate(input: &Input<'_>) -> Diagnosis {
    let timeline = match input.external {
        Some(_) => TimelineView::whole(input.timeline),
        None => TimelineView::new(input.timeline),
    };
    let finding = match input.row.end() {
        Some(end) => ended_verdict::verdict(input, &timeline, end),
        None => active_verdict::verdict(input, &timeline),
    };
    // The cause comes first in a finding, what followed from it later.
    let mut proof = finding.proof;
    proof.truncate(EVIDENCE_MAX);
    if proof.is_empty() {
        proof.extend(input.timeline.last());
    }
    proof.sort_by_key(|entry| entry.number);
    proof.dedup_by_key(|entry| entry.number);
    Diagnosis {
        session: input.row.id.clone(),
        at: clock::rfc3339(input.now_ms),
        verdict: finding.verdict,
        sentence: finding.sentence,
        remedy: finding.verdict.remedy().to_owned(),
        evidence: proof.into_iter().map(evidence).collect(),
        chain: causal_chain::causal_chain(input, &timeline, finding.verdict),
    }
}

fn evidence(entry: &TimelineRow) -> Evidence {
    Evidence {
        number: entry.number,
        at: clock::rfc3339(entry.at_ms),
        kind: entry.kind.clone(),
        sentence: entry.sentence.clone(),
    }
}

//! Explains a session's state: one verdict, its evidence, and the status of each component from the session to its credential.
//!
//! ```text
//!  supervisor state, row, timeline ─▶ DiagnosisInput ─▶ evaluate (pure) ─▶ verdict · sentence · remedy · evidence · chain
//! ```
//!
//! Several verdicts can apply. The result is the first one that applies, in this order:
//!
//! 1. **Completed** and **cancelled** sessions get that verdict, whatever happened before.
//! 2. **Failed**: the recorded reason names the component. If that is the machine, the verdict is how the *last* machine ended
//!    (its `machine_exited` entry, else its receipt). A failed claim is the cause of the stop that follows it.
//! 3. **Expired**: if no machine was ever requested: no capacity. Else a fault of the sign-in (4), if there is one. Else
//!    the deadline.
//! 4. **Sign-in** (of the last machine only), in this order: a failing delivery; a program of the machine that was killed
//!    because memory ran out, or that crashes repeatedly; a tool that could not be started; a tool whose own last words name the
//!    cause ([`last_words`]); a tool that exited with an error; an invalid credential file; a tool that is
//!    signed in and left no file; a tool that exited without one; a
//!    host whose certificate the machine does not accept; no reachable host. A tool's error is attributed to the egress gate only if its
//!    last lines name a denied host, or if they speak of a connection and a request was denied at most
//!    [`egress_faults::ATTRIBUTION_MS`] before its exit: browsers request many names that do not matter.
//! 5. **Active**: not yet open (queued, starting, being replaced, agent unreachable), then (4), then an agent or a desktop that
//!    did not answer the last viewer. Otherwise the session waits for the user.
//!
//! A session that uses a stored credential has no sign-in: (4) then covers what prevents the command from running or its
//! result from being stored. The exit code of the command is not a fault.
//!
//! [`Verdict::Unknown`] is for a recorded reason that the server never writes.

mod active_verdict;
mod causal_chain;
mod credential_use_faults;
mod egress_faults;
mod ended_verdict;
mod external_faults;
mod finding;
mod guest_faults;
mod last_words;
mod missing_credential;
mod observation;
mod sign_in_faults;
#[cfg(test)]
mod tests;
mod timeline_view;

use super::{
    active_session::{DeviceCodeState, SessionState},
    status::Progress,
};
use crate::{api_error::chain as chain_of, session::server_context::ServerContext, unix_time};
use anteroom_machine::ExitReason;
use anteroom_store::{SessionRow, StoreError, TimelineRow};
use anteroom_wire::{
    SessionId,
    agent::{CaptureState, CliState},
    diagnosis::{Diagnosis, Evidence, Verdict},
};
pub use external_faults::ExternalMachineConfig;
use finding::Finding;
pub use last_words::ToolWords;
pub(super) use last_words::named_cause;
pub(super) use missing_credential::NOT_FOUND;
pub(super) use sign_in_faults::{NOT_USABLE, STATUS_COMMAND};
use std::time::Duration;
use timeline_view::TimelineView;

/// The data that a diagnosis is derived from.
#[derive(Debug)]
pub struct DiagnosisInput<'a> {
    /// The time of the diagnosis, milliseconds since 1970.
    pub now_ms: unix_time::UnixMs,
    /// The display name of the tool.
    pub tool: &'a str,
    /// The name of the tool's program in the image; empty: not known.
    pub cli: &'a str,
    /// How the tool names causes in its own way.
    pub words: ToolWords<'a>,
    /// A variable of this server's environment that names a proxy, and is not used.
    pub unused_proxy_variable: Option<&'static str>,
    /// The row of the session.
    pub row: &'a SessionRow,
    /// The supervisor's state; `None`: no supervisor of this server runs the session.
    pub supervisor: Option<SupervisorSnapshot>,
    /// The whole timeline, oldest first.
    pub timeline: &'a [TimelineRow],
    /// How the last machine ended, if the timeline has no entry for it.
    pub receipt: Option<ExitReason>,
    /// The configuration of the session's external machine; `None`: the session uses machines of this host.
    pub external: Option<ExternalMachineConfig>,
}

/// The state of the session in its supervisor.
#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorSnapshot {
    /// The progress of the session.
    pub progress: Progress<()>,
    /// The state of the tool, as last reported by the agent.
    pub cli: CliState,
    /// The state of the credential capture, as last reported by the agent.
    pub capture: CaptureState,
    /// Whether a sign-in address or code is known.
    pub signing_in: bool,
    /// The device code of the sign-in.
    pub code: DeviceCodeState,
    /// Desktop viewers connected.
    pub desktop_viewers: u32,
    /// Why the agent of an open machine did not answer a request just now.
    pub agent_error: Option<String>,
}

impl From<&SessionState> for SupervisorSnapshot {
    fn from(state: &SessionState) -> Self {
        let machine = state.machine.as_ref();
        let sign_in = machine.map(|machine| machine.sign_in.reported_status.clone()).unwrap_or_default();
        let code = machine.map(|machine| machine.sign_in.device_code_state(&state.provider));
        Self {
            code: code.unwrap_or_default(),
            progress: state.progress.without_channels(),
            signing_in: sign_in.is_in_progress(),
            cli: sign_in.cli,
            capture: sign_in.capture,
            desktop_viewers: state.desktop_viewers,
            agent_error: None,
        }
    }
}

/// What the commands of a remedy have in place of the session's provider.
const PROVIDER: &str = "PROVIDER";
/// Timeout for the agent's answer about the sign-in, milliseconds.
const AGENT_MS_MAX: u64 = 2_000;
/// Timeout for flushing buffered timeline entries, milliseconds.
const FLUSH_MS_MAX: u64 = 300;
/// Timeline entries that are read. The timeline limits all kinds of entries except state transitions to fewer than this.
pub(super) const TIMELINE_ENTRIES_MAX: u32 = 10_000;
/// The most evidence entries; the cause is always one of them.
const EVIDENCE_MAX: usize = 40;

/// The session's current diagnosis, without the address of an external machine.
///
/// # Errors
/// The database cannot be read.
pub async fn diagnose(server_context: &ServerContext, id: &SessionId) -> Result<Option<Diagnosis>, StoreError> {
    diagnose_for(server_context, id, false).await
}

/// Like [`diagnose`]; for an operator the diagnosis includes the address of an external machine.
///
/// # Errors
/// The database cannot be read.
pub async fn diagnose_for(
    server_context: &ServerContext,
    id: &SessionId,
    operator: bool,
) -> Result<Option<Diagnosis>, StoreError> {
    // Read the supervisor's state before the row: when the supervisor closes a session, the row has its end already.
    let supervisor = match server_context.sessions.get(id) {
        Some(live) => Some(snapshot(&live.state()).await),
        None => None,
    };
    // Include entries that are still buffered, but do not wait long for a database that does not answer.
    let _ = tokio::time::timeout(Duration::from_millis(FLUSH_MS_MAX), server_context.timeline.wait_written(id)).await;
    let Some(row) = server_context.store.get_session(id).await? else { return Ok(None) };
    let timeline = server_context.store.list_timeline(id, 0, TIMELINE_ENTRIES_MAX).await?;
    let providers = server_context.providers();
    let provider = providers.get(&row.provider);
    let tool = provider.map_or_else(|| row.provider.to_string(), |provider| provider.name.clone());
    let receipt = receipt(server_context, &row, &timeline).await;
    let external = row.external_machine.as_ref().map(|name| {
        let machine = server_context.external.get(name);
        let address = machine.filter(|_| operator).map(|machine| machine.desktop_endpoint.to_string());
        ExternalMachineConfig { is_configured: machine.is_some(), address }
    });
    let input = DiagnosisInput {
        now_ms: unix_time::now_unix_ms(),
        tool: &tool,
        cli: provider.map_or("", |provider| provider.program()),
        words: provider.map(ToolWords::of).unwrap_or_default(),
        unused_proxy_variable: server_context.gate.unused_proxy_variable(),
        row: &row,
        supervisor,
        timeline: &timeline,
        receipt,
        external,
    };
    let mut diagnosis = evaluate(&input);
    if diagnosis.verdict == Verdict::WaitingForCapacity
        && let Some(why) = server_context.queue.admission_shortage()
    {
        diagnosis.sentence =
            format!("{} No session is admitted at the moment: {}.", diagnosis.sentence, chain_of(&why));
    }
    Ok(Some(diagnosis))
}

/// The supervisor's state, updated by asking the agent: while the database fails, the agent's events are not stored.
async fn snapshot(state: &SessionState) -> SupervisorSnapshot {
    let mut snapshot = SupervisorSnapshot::from(state);
    let Progress::Open { channels } = &state.progress else { return snapshot };
    match tokio::time::timeout(Duration::from_millis(AGENT_MS_MAX), channels.agent.sign_in_state()).await {
        Ok(Ok(sign_in)) => {
            snapshot.signing_in |= sign_in.is_in_progress();
            (snapshot.cli, snapshot.capture) = (sign_in.cli, sign_in.capture);
        }
        Ok(Err(error)) => snapshot.agent_error = Some(chain_of(&error)),
        Err(_) => snapshot.agent_error = Some(format!("no answer within {AGENT_MS_MAX} ms")),
    }
    snapshot
}

/// The exit reason in the receipt of the last machine, if the timeline has no entry for its exit.
async fn receipt(server_context: &ServerContext, row: &SessionRow, timeline: &[TimelineRow]) -> Option<ExitReason> {
    let machine = row.machine.clone()?;
    if row.is_active() || TimelineView::new(timeline).last_machine_exit().is_some() {
        return None;
    }
    let machines = server_context.machines.clone();
    let read = tokio::task::spawn_blocking(move || machines.read_receipt(&machine)).await;
    Some(read.ok()?.ok()??.exit_reason())
}

/// Derives the diagnosis. Pure.
pub fn evaluate(input: &DiagnosisInput<'_>) -> Diagnosis {
    let timeline = match input.external {
        Some(_) => TimelineView::of_one_machine(input.timeline),
        None => TimelineView::new(input.timeline),
    };
    let finding = match input.row.end() {
        Some(end) => ended_verdict::ended_verdict(input, &timeline, end),
        None => active_verdict::active_verdict(input, &timeline),
    };
    // The cause is first in a finding, its consequences are after it.
    let mut entries = finding.evidence;
    entries.truncate(EVIDENCE_MAX);
    if entries.is_empty() {
        entries.extend(input.timeline.last());
    }
    entries.sort_by_key(|entry| entry.number);
    entries.dedup_by_key(|entry| entry.number);
    Diagnosis {
        session: input.row.id.clone(),
        at: unix_time::format_rfc3339(input.now_ms),
        verdict: finding.verdict,
        sentence: finding.sentence,
        remedy: finding.remedy.unwrap_or(finding.verdict.remedy()).replace(PROVIDER, input.row.provider.as_str()),
        evidence: entries.into_iter().map(evidence).collect(),
        chain: causal_chain::causal_chain(input, &timeline, finding.verdict),
    }
}

fn evidence(entry: &TimelineRow) -> Evidence {
    Evidence {
        number: entry.number,
        at: unix_time::format_rfc3339(entry.at_ms),
        kind: entry.kind,
        sentence: entry.sentence.clone(),
    }
}

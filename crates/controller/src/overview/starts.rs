//! How long starts took, by stage, from the timelines.

use super::{ENTRIES_MAX, created_since, percentiles::Percentiles};
use crate::{
    session::server_context::ServerContext,
    unix_time::{UnixMs, format_rfc3339},
};
use anteroom_machine::StartTimings;
use anteroom_store::{StoreError, TimelineRow};
use anteroom_wire::{
    SessionId, TimelineKind,
    api::{StageDurations, StartInterval, StartStage},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The entries from which the stages are computed.
const KINDS: [TimelineKind; 7] = [
    TimelineKind::Accepted,
    TimelineKind::MachineRequested,
    TimelineKind::MachineReady,
    TimelineKind::CliStarted,
    TimelineKind::SignInUrl,
    TimelineKind::DeviceCode,
    TimelineKind::PromptOpened,
];

/// The intervals into which a period is divided.
const INTERVALS: u64 = 24;

/// The starts of a period.
pub(super) struct Starts {
    pub stages: Vec<StageDurations>,
    pub history: Vec<StartInterval>,
    pub is_partial: bool,
}

/// Measures the starts from `since_ms` until `now_ms`: those of sessions' first machines, because replacements do not wait for a person.
pub(super) async fn measure_starts(
    server_context: &ServerContext,
    since_ms: UnixMs,
    now_ms: UnixMs,
) -> Result<Starts, StoreError> {
    let created_since_ms = created_since(server_context, since_ms);
    let entries = server_context.store.list_entries_of_kinds(&KINDS, created_since_ms, ENTRIES_MAX).await?;
    let is_partial = entries.len() >= ENTRIES_MAX as usize;
    let mut stages: BTreeMap<StartStage, Vec<u64>> = BTreeMap::new();
    let mut history: BTreeMap<UnixMs, Vec<u64>> = BTreeMap::new();
    let interval_ms = (now_ms.saturating_sub(since_ms) / INTERVALS).max(1);
    for session in entries.chunk_by(|(a, _), (b, _)| a == b) {
        let Some(start) = Start::of(session) else { continue };
        if start.ready_at_ms < since_ms {
            continue;
        }
        for (stage, duration_ms) in start.durations {
            stages.entry(stage).or_default().push(duration_ms);
        }
        let index = (start.ready_at_ms - since_ms) / interval_ms;
        history.entry(since_ms + index * interval_ms).or_default().push(start.total_ms);
    }
    let stages = stages.into_iter().filter_map(|(stage, durations)| {
        let Percentiles { count, p50_ms, p95_ms } = Percentiles::of(durations)?;
        Some(StageDurations { stage, starts: count, p50_ms, p95_ms })
    });
    let history = history.into_iter().filter_map(|(at_ms, durations)| {
        let Percentiles { count, p50_ms, p95_ms } = Percentiles::of(durations)?;
        Some(StartInterval { at: format_rfc3339(at_ms), starts: count, p50_ms, p95_ms })
    });
    Ok(Starts { stages: stages.collect(), history: history.collect(), is_partial })
}

/// The start of a session's first machine.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    ready_at_ms: UnixMs,
    total_ms: u64,
    durations: Vec<(StartStage, u64)>,
}

#[derive(Deserialize)]
struct ReadyData {
    timings: StartTimings,
}

impl Start {
    /// The start of a session with these entries; `None`: no machine became ready, or the machine is an external one.
    fn of(entries: &[(SessionId, TimelineRow)]) -> Option<Self> {
        let first =
            |kinds: &[TimelineKind]| entries.iter().map(|(_, entry)| entry).find(|entry| kinds.contains(&entry.kind));
        let accepted = first(&[TimelineKind::Accepted])?;
        let requested = first(&[TimelineKind::MachineRequested])?;
        let ready = first(&[TimelineKind::MachineReady])?;
        let ReadyData { timings } = ReadyData::deserialize(&ready.data).ok()?;
        let total_ms = ready.at_ms.saturating_sub(accepted.at_ms);
        let up_at_ms = requested.at_ms.saturating_add(timings.ready_ms);
        let mut durations = vec![
            (StartStage::Queue, requested.at_ms.saturating_sub(accepted.at_ms)),
            (StartStage::Process, timings.spawned_ms),
            (StartStage::Channel, timings.channel_ms.saturating_sub(timings.spawned_ms)),
            (StartStage::Agent, timings.agent_info_ms.saturating_sub(timings.channel_ms)),
            (StartStage::Desktop, timings.ready_ms.saturating_sub(timings.agent_info_ms)),
            (StartStage::Claim, ready.at_ms.saturating_sub(up_at_ms)),
            (StartStage::Total, total_ms),
        ];
        let shown = first(&[TimelineKind::SignInUrl, TimelineKind::DeviceCode, TimelineKind::PromptOpened]);
        if let (Some(started), Some(shown)) = (first(&[TimelineKind::CliStarted]), shown) {
            durations.push((StartStage::Tool, shown.at_ms.saturating_sub(started.at_ms)));
        }
        Some(Self { ready_at_ms: ready.at_ms, total_ms, durations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(number: u64, at_ms: u64, kind: TimelineKind, data: Value) -> (SessionId, TimelineRow) {
        let id = SessionId::from_parts(1, [1; 10]);
        (id, TimelineRow { number, at_ms, kind, sentence: String::new(), data })
    }

    #[test]
    fn stages_of_a_start_follow_each_other() {
        let timings = json!({ "spawned_ms": 20, "channel_ms": 120, "agent_info_ms": 130, "ready_ms": 400 });
        let mut entries = vec![
            entry(1, 1_000, TimelineKind::Accepted, Value::Null),
            entry(2, 1_250, TimelineKind::MachineRequested, json!({})),
            entry(3, 1_700, TimelineKind::MachineReady, json!({ "timings": timings })),
            entry(4, 1_710, TimelineKind::CliStarted, Value::Null),
            entry(5, 4_710, TimelineKind::DeviceCode, Value::Null),
        ];
        let start = Start::of(&entries).unwrap();
        let expected = [
            (StartStage::Queue, 250),
            (StartStage::Process, 20),
            (StartStage::Channel, 100),
            (StartStage::Agent, 10),
            (StartStage::Desktop, 270),
            (StartStage::Claim, 50),
            (StartStage::Total, 700),
            (StartStage::Tool, 3_000),
        ];
        assert_eq!(start.durations, expected);
        assert_eq!((start.ready_at_ms, start.total_ms), (1_700, 700));
        entries.truncate(2);
        assert_eq!(Start::of(&entries), None, "no machine became ready");
    }
}

//! What an operator sees of the whole server.

use super::{Isolation, SessionStatus};
use crate::{ProviderId, SessionId, diagnosis::Verdict};
use serde::{Deserialize, Serialize};
#[cfg(feature = "utoipa")]
use utoipa::ToSchema;

/// `GET /api/overview`: the server now, and the sessions of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Overview {
    /// When it was made.
    pub at: String,
    /// The beginning of the period; its end is now.
    pub since: String,
    /// Active sessions now.
    pub live: LiveSessions,
    /// Sessions that ended in the period, by outcome.
    pub outcomes: Outcomes,
    /// Why sessions ended in the period without a credential, the most frequent cause first.
    pub causes: Vec<CauseCount>,
    /// How long the stages of starts took in the period, in the order of the stages.
    pub starts: Vec<StageDurations>,
    /// The same for whole starts, by the time of the start, the oldest first; intervals without a start are left out.
    pub start_history: Vec<StartInterval>,
    /// The host's capacity now.
    pub host: HostCapacity,
    /// The hosts that machines asked for in the period and did not reach, the most frequent first, at most 10.
    pub refused_hosts: Vec<RefusedHost>,
    /// The period has more sessions than are read: `causes`, `starts` and `refused_hosts` are of the newest ones only.
    pub is_partial: bool,
}

/// Active sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct LiveSessions {
    /// All.
    pub sessions: u64,
    /// Of these, the ones that wait for a machine.
    pub queued: u64,
    /// How long the session that waits longest has waited for a machine, milliseconds; `null`: none waits.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub queue_wait_ms_max: Option<u64>,
    /// Desktop viewers.
    pub viewers: u64,
    /// By status, only those that occur.
    pub by_status: Vec<StatusCount>,
}

/// The active sessions with one status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StatusCount {
    /// The status.
    pub status: SessionStatus,
    /// The number of sessions.
    pub sessions: u64,
}

/// Ended sign-ins by outcome, and ended uses of stored credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct Outcomes {
    /// A credential is stored.
    pub completed: u64,
    /// Ended by a fault.
    pub failed: u64,
    /// Ended by their owner.
    pub cancelled: u64,
    /// Ended by a deadline.
    pub expired: u64,
    /// Used a stored credential for a command, a check or a sign-out, whatever their end: not part of the other numbers.
    pub uses: u64,
}

/// The sessions with one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct CauseCount {
    /// The cause.
    pub verdict: Verdict,
    /// What to do about it, one sentence.
    pub remedy: String,
    /// The number of sessions.
    pub sessions: u64,
    /// The newest of them.
    pub newest: SessionId,
}

/// A stage of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub enum StartStage {
    /// From the request until the machine was requested.
    Queue,
    /// From there until the machine's process ran.
    Process,
    /// From there until the channel answered.
    Channel,
    /// From there until the agent answered.
    Agent,
    /// From there until desktop, terminal and browser were up.
    Desktop,
    /// From there until the session had claimed the machine.
    Claim,
    /// From there until the tool showed an address, a code or a prompt.
    Tool,
    /// From the request until the session had claimed the machine.
    Total,
}

impl StartStage {
    /// All stages, in their order.
    pub const ALL: [Self; 8] =
        [Self::Queue, Self::Process, Self::Channel, Self::Agent, Self::Desktop, Self::Claim, Self::Tool, Self::Total];

    /// The text in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Process => "process",
            Self::Channel => "channel",
            Self::Agent => "agent",
            Self::Desktop => "desktop",
            Self::Claim => "claim",
            Self::Tool => "tool",
            Self::Total => "total",
        }
    }
}

/// How long one stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StageDurations {
    /// The stage.
    pub stage: StartStage,
    /// The number of starts.
    pub starts: u64,
    /// Half of them took at most this long.
    pub p50_ms: u64,
    /// 95 of 100 took at most this long.
    pub p95_ms: u64,
}

/// The starts of one interval of the period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct StartInterval {
    /// When the interval begins.
    pub at: String,
    /// The number of starts.
    pub starts: u64,
    /// Half of them took at most this long.
    pub p50_ms: u64,
    /// 95 of 100 took at most this long.
    pub p95_ms: u64,
}

/// The capacity of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct HostCapacity {
    /// Machines that are not removed.
    pub machines: u64,
    /// Machines that may run at the same time.
    pub machines_max: u32,
    /// The memory that one machine may take, MiB; 0: unknown.
    pub machine_memory_mib_max: u64,
    /// The host's memory, or the limit of its control group, MiB.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub memory_total_mib: Option<u64>,
    /// The memory that can be taken without swapping, MiB.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub memory_available_mib: Option<u64>,
    /// The free space of the file system of the state directory, MiB.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub disk_free_mib: Option<u64>,
    /// Why no session is admitted at the moment, although a machine would be permitted.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub shortage: Option<String>,
    /// How machines are isolated from the host.
    pub isolation: Isolation,
}

/// A host that machines asked for and did not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct RefusedHost {
    /// Its name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The provider whose tool ran in the machines.
    pub provider: ProviderId,
    /// Why, as the code of a problem.
    pub reason: String,
    /// The number of sessions.
    pub sessions: u64,
    /// When a machine last asked for it.
    pub last_at: String,
    /// The newest of these sessions.
    pub newest: SessionId,
    /// What to add to the provider's descriptor so that its machines may connect to the host; `null`: it is allowed, and did not answer.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub descriptor_change: Option<String>,
    /// Whether the newest of these sessions is active and can be allowed the host: `POST /api/auth/session/{id}/hosts`.
    pub grantable: bool,
}

/// `GET /api/egress/refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(ToSchema))]
pub struct RefusedHostList {
    /// The most frequent first.
    pub hosts: Vec<RefusedHost>,
    /// The period has more sessions than are read: these are of the newest ones only.
    pub is_partial: bool,
}

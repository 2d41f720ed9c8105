//! The diagnosis: one verdict from a closed list, what proves it, and the whole chain as it was looked at.
//!
//! The list is one table, so that a page, a backend and an operator are told the same cause by the same name.

use crate::SessionId;
use serde::{Deserialize, Serialize};

macro_rules! verdicts {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $remedy:literal; )*) => {
        /// What is so with a session, and why.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        pub enum Verdict { $( $(#[$doc])* #[serde(rename = $code)] $name, )* }

        impl Verdict {
            /// All of them, for tables and tests.
            pub const ALL: &'static [Verdict] = &[$( Verdict::$name, )*];

            /// Stable, for programs.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// One sentence, for people: what to do.
            pub fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
        }
    };
}

verdicts! {
    // It lives and nothing is wrong.
    /// Everything is up; the person's turn.
    WaitingForUser = "waiting_for_user", "Nothing is broken: finish the sign-in in the desktop, the terminal or through the link.";
    /// A stored credential is used, and the command runs.
    CommandRunning = "command_running", "Nothing is broken: wait for the command's end, or look at it in the terminal.";
    /// In line for a machine.
    WaitingForCapacity = "waiting_for_capacity", "Wait, end a session that is not needed, or raise machines_max.";
    /// A machine is on its way.
    MachineStarting = "machine_starting", "Wait a moment; if it stays at one stage, run `anteroom doctor`.";
    /// The machine ended and another is on its way.
    MachineBeingReplaced = "machine_being_replaced", "Wait a moment: the sign-in starts again by itself; the evidence has the former machine's end.";
    /// A whole credential was found and is on its way to the vault.
    Delivering = "delivering", "Wait a moment.";
    /// No task of this server runs the session at this moment.
    Resuming = "resuming", "Wait a moment: the server takes the session over at its next sweep.";
    // It lives and something is wrong, or that is why it came to nothing.
    /// The way to the agent of a machine that was ready broke.
    AgentUnreachable = "agent_unreachable", "It is tried again by itself; if it stays, ask for another machine.";
    /// The desktop did not answer the last viewer.
    DesktopUnreachable = "desktop_unreachable", "Connect again in a moment; if it stays, ask for another machine.";
    /// There is no way to the external machine.
    ExternalNoRoute = "external_no_route", "Check that the machine's name resolves and that this host has a way to its network; the page connects again by itself.";
    /// The external machine refuses connections.
    ExternalRefused = "external_refused", "Start the websockify or VNC server on that machine, and check its port; the page connects again by itself.";
    /// The external machine does not take connections.
    ExternalTimeout = "external_timeout", "Check that the machine is switched on and that no firewall drops the packets; the page connects again by itself.";
    /// The external desktop says nothing.
    ExternalSilent = "external_silent", "Look on that machine whether the VNC server hangs, or whether another program has the port.";
    /// The external desktop hangs up.
    ExternalClosed = "external_closed", "Look on that machine whether the VNC server behind the websockify runs, and whether it takes more viewers.";
    /// What answers there is no desktop.
    ExternalWrongProtocol = "external_wrong_protocol", "Compare scheme, port and path of the machine's address in the configuration: ws:// is for websockify, vnc:// for a VNC server.";
    /// The external machine was taken out of the configuration.
    ExternalRemoved = "external_removed", "Put the machine back into the configuration and start the server again, or cancel the session.";
    /// The tool could not be started.
    CliNotStarted = "cli_not_started", "Build the image again with the tool in it: `anteroom image build`.";
    /// The tool ended with an error.
    CliFailed = "cli_failed", "Read the tool's last lines; then ask for another machine to start it again.";
    /// The tool ended without an error and without a credential.
    CliExitedWithoutCredential = "cli_exited_without_credential", "Ask for another machine and sign in before the tool is closed.";
    /// The tool failed after a name was refused to it.
    EgressDenied = "egress_denied", "Add the name to the provider's egress list if the tool needs it, then start a new session.";
    /// Names that are granted cannot be reached from this host.
    EgressUnreachable = "egress_unreachable", "Check this host's connection to the Internet and its name server.";
    /// A file appeared that is not this provider's credential.
    CredentialInvalidFormat = "credential_invalid_format", "Finish the sign-in; if it is finished, the tool's version may write another shape: compare the provider's `required` keys.";
    /// The tool's own status command does not agree that it is signed in.
    CredentialNotConfirmed = "credential_not_confirmed", "Finish the sign-in; if it is finished, compare the provider's `status_argv` and `status_matches` with the tool's version.";
    /// The guest's kernel killed a program for want of memory.
    GuestOutOfMemory = "guest_out_of_memory", "Ask for another machine and keep fewer pages open in it; raise machines.memory_mib if the tool needs more.";
    /// A program of the machine ends again and again.
    GuestCrashLoop = "guest_crash_loop", "Read the program's last lines; ask for another machine, and if it comes back build the image again: `anteroom image build`.";
    /// The machine is short of memory.
    GuestMemoryLow = "guest_memory_low", "Close pages in the machine's browser; raise machines.memory_mib if the tool needs more.";
    /// A whole credential cannot be handed over.
    DeliveryFailing = "delivery_failing", "The machine keeps the credential and tries again: repair what the error names; `/health` names the dependency.";
    // It ended, and its machine is why.
    /// The machine's process ended by itself.
    MachineExited = "machine_exited", "Start a new session; the machine's receipt has its last console lines.";
    /// The machine's process was killed from outside.
    MachineKilled = "machine_killed", "Find out on the host who sent the signal, then start a new session.";
    /// The host's kernel killed the machine for want of memory.
    OutOfMemory = "out_of_memory", "Give the host more memory or lower machines_max, then start a new session.";
    /// The machine reached its hard deadline.
    MachineDeadline = "machine_deadline", "Start a new session; raise the machine's deadline if it is too short.";
    /// The guest switched itself off.
    GuestPowerOff = "guest_power_off", "Start a new session; the machine's receipt has its last console lines.";
    /// The guest's kernel gave up.
    GuestPanic = "guest_panic", "Start a new session; if it comes back, run `anteroom doctor` and build the image again.";
    /// QEMU could not run the machine on.
    VmmError = "vmm_error", "Look at the host: its kernel's log for KVM, its disk for errors; run `anteroom doctor`, then start a new session.";
    /// The machine gave no sign of life any more and was ended.
    MachineUnresponsive = "machine_unresponsive", "Start a new session; if it comes back, give the host more processors or memory, or raise machines.liveness_timeout_s.";
    /// The machine's keeper was killed.
    KeeperLost = "keeper_lost", "Find out on the host who ended the keeper process, then start a new session.";
    /// The machine could not be started.
    MachineStartFailed = "machine_start_failed", "Run `anteroom doctor`: it lists what is missing on this host.";
    /// The machine was told to end though its session lived.
    MachineStopped = "machine_stopped", "Start a new session.";
    /// The machine ended and its cause is not on record.
    MachineEndUnknown = "machine_end_unknown", "Start a new session; the log has what the server saw.";
    /// The machine was not ready in time.
    ReadyTimeout = "ready_timeout", "Look at the stage and its last error; run `anteroom doctor`.";
    /// The machine runs another image or agent than the server expects.
    ImageMismatch = "image_mismatch", "Build the image again: `anteroom image build`.";
    /// A ready machine could not be made this session's.
    ClaimFailed = "claim_failed", "Start a new session; if it comes back, build the image again.";
    /// There is no image to start from.
    NoImage = "no_image", "Run `anteroom image build`.";
    /// No room came free.
    NoCapacity = "no_capacity", "End sessions that are not needed, raise machines_max, or try again later.";
    // It ended for another reason.
    /// The credential is stored.
    Completed = "completed", "Nothing to do.";
    /// Its owner ended it.
    Cancelled = "cancelled", "Start a new session when you are ready.";
    /// Nobody used it.
    IdleExpired = "idle_expired", "Start a new session; raise idle_s_max if people need longer.";
    /// It reached its longest duration.
    DeadlineExpired = "deadline_expired", "Start a new session; raise session_s_max if people need longer.";
    /// The server restarted and the machine had ended meanwhile.
    ServerRestarted = "server_restarted", "Start a new session.";
    /// The provider was taken out of the configuration.
    ProviderRemoved = "provider_removed", "Configure the provider again, or start a session for another one.";
    /// The credential that was to be used, or signed in for again, is no longer stored.
    CredentialDeleted = "credential_deleted", "Sign in again: it was deleted before it could be used.";
    /// Something failed inside the server.
    InternalError = "internal_error", "The log has the cause: search it for the session's id.";
    /// Nothing on record explains it.
    Unknown = "unknown", "Read the timeline and the log; please report this as a fault of the diagnosis.";
}

/// `GET …/diagnosis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// Whose.
    pub session: SessionId,
    /// When it was looked at.
    pub at: String,
    /// The one cause.
    pub verdict: Verdict,
    /// The verdict in words, with the particulars and times of this case.
    pub sentence: String,
    /// What to do.
    pub remedy: String,
    /// The timeline entries that prove it, oldest first.
    pub evidence: Vec<Evidence>,
    /// Every link from the session to the credential.
    pub chain: Vec<ComponentStatus>,
}

/// A timeline entry that proves something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// Its number on the timeline.
    pub number: u64,
    /// When.
    pub at: String,
    /// Its kind.
    pub kind: String,
    /// Its sentence.
    pub sentence: String,
}

/// What stands between a session and its credential, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Component {
    /// The session itself.
    Session,
    /// The machine's process.
    Machine,
    /// The byte channel into it.
    Channel,
    /// Its agent.
    Agent,
    /// Its desktop.
    Display,
    /// The way of viewers to the desktop.
    Tunnel,
    /// The provider's tool.
    Cli,
    /// The way out of the machine.
    Egress,
    /// The credential.
    Credential,
}

/// How one link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum ComponentState {
    /// It works, or did its work.
    Ok,
    /// It is being waited for.
    Waiting,
    /// It does not work, or ended before its work was done.
    Failed,
    /// Nothing on record says.
    Unknown,
    /// A link before it has to work first, or nobody asked for it.
    NotReached,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ComponentStatus {
    /// Which.
    pub component: Component,
    /// How it is.
    pub state: ComponentState,
    /// What was seen, one sentence.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_travel_as_they_are() {
        let codes: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
        assert_eq!(codes.len(), Verdict::ALL.len());
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.code());
            assert_eq!(serde_json::from_value::<Verdict>(verdict.code().into()).unwrap(), *verdict);
            assert!(verdict.remedy().ends_with('.'), "{verdict:?}");
        }
    }
}

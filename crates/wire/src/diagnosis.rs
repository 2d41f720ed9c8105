//! The diagnosis of a session: one verdict from a closed list, the timeline entries that prove it, and the status of every component.
//!
//! The list is one table: pages, backends and operators see the same code for a cause, and each cause has a sentence for both.

mod component;

pub use component::{Component, ComponentState, ComponentStatus};

use crate::{SessionId, TimelineKind};
use serde::{Deserialize, Serialize};

// The text is a `tt`, because the derive of `ToSchema` ignores `rename` with a `literal` fragment.
macro_rules! verdicts {
    ($( $(#[$doc:meta])* $name:ident = $code:tt, $remedy:literal, $for_person:literal; )*) => {
        /// The state of a session, or why it ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        pub enum Verdict { $( $(#[$doc])* #[serde(rename = $code)] $name, )* }

        impl Verdict {
            /// All verdicts, for tables and tests.
            pub const ALL: &'static [Verdict] = &[$( Verdict::$name, )*];

            /// The stable code, for programs.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// One sentence, for operators: what to do.
            pub fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
            /// One sentence, for the person at a page: what happened. `{tool}` is the tool's name.
            pub fn for_person(self) -> &'static str { match self { $( Self::$name => $for_person, )* } }
        }
    };
}

verdicts! {
    // Active, nothing is wrong.
    /// Everything is up; the user must continue the sign-in.
    WaitingForUser = "waiting_for_user", "Nothing is broken: finish the sign-in in the desktop, in the terminal or through the link.", "{tool} waits for you to finish the sign-in.";
    /// The command with a stored credential is running.
    CommandRunning = "command_running", "Nothing is broken: wait for the command to end, or watch it in the terminal.", "{tool} is running.";
    /// Queued for a machine.
    WaitingForCapacity = "waiting_for_capacity", "Wait, end a session that is not needed, or raise machines.machines_max.", "No computer was free yet.";
    /// A machine is starting.
    MachineStarting = "machine_starting", "Wait a moment; if it remains at one stage, run `anteroom doctor`.", "The temporary computer is starting.";
    /// The machine ended and another one is starting.
    MachineBeingReplaced = "machine_being_replaced", "Wait a moment: the sign-in restarts automatically; the evidence shows why the previous machine ended.", "The temporary computer stopped, and a new one is being prepared.";
    /// A complete credential was found and is being delivered to the vault.
    Delivering = "delivering", "Wait a moment.", "Your sign-in is being saved.";
    /// No task of this server supervises the session at the moment.
    Resuming = "resuming", "Wait a moment: the server resumes the session at its next reconciliation.", "This continues in a moment.";
    // Active with a fault, or ended because of that fault.
    /// The connection to the agent of a ready machine was lost.
    AgentUnreachable = "agent_unreachable", "The server retries automatically; if it persists, request another machine.", "The temporary computer did not answer.";
    /// The desktop did not answer the last viewer.
    DesktopUnreachable = "desktop_unreachable", "Connect again in a moment; if it persists, request another machine.", "The remote browser did not answer.";
    /// A reverse proxy does not pass viewers' WebSockets on.
    ProxyWithoutUpgrade = "proxy_without_upgrade", "Let the reverse proxy use HTTP/1.1 and pass the headers Upgrade and Connection (docs/networks.md), then connect again.", "Something on the way to this page does not let the picture through.";
    /// The page noticed what a reverse proxy on its way does wrong.
    ProxyFault = "proxy_fault", "Compare the reverse proxy's configuration with docs/networks.md; `anteroom doctor --public-url` names what it does not pass on.", "Something on the way to this page does not let everything through.";
    /// There is no route to the external machine.
    ExternalNoRoute = "external_no_route", "Check that the machine's name resolves and that this host has a route to its network; the page connects again by itself.", "The computer for this sign-in cannot be reached from here.";
    /// The external machine refuses connections.
    ExternalRefused = "external_refused", "Start the websockify or VNC server on that machine, and check its port; the page connects again by itself.", "The computer for this sign-in does not accept connections.";
    /// The external machine does not accept connections in time.
    ExternalTimeout = "external_timeout", "Check that the machine is switched on and that no firewall drops the packets; the page connects again by itself.", "The computer for this sign-in did not answer in time.";
    /// The external desktop sends nothing.
    ExternalSilent = "external_silent", "Check on that machine whether the VNC server hangs or another program uses the port.", "The computer for this sign-in sends no picture.";
    /// The external desktop closes the connection.
    ExternalClosed = "external_closed", "Check on that machine whether the VNC server behind the websockify runs and accepts more viewers.", "The computer for this sign-in closed the connection.";
    /// The certificate of the external desktop is not accepted.
    ExternalCertificate = "external_certificate", "Renew the certificate on that machine, or set its ca_file or certificate_sha256 in the configuration.", "The connection to the computer for this sign-in could not be trusted.";
    /// The external desktop does not speak TLS.
    ExternalNoTls = "external_no_tls", "Compare the scheme of the machine's address in the configuration: wss:// is for websockify with a certificate, vncs:// for a TLS proxy, vencrypt:// for a VNC server with X509None or X509Vnc.", "The connection to the computer for this sign-in is not encrypted as it must be.";
    /// The service there is not a VNC server.
    ExternalWrongProtocol = "external_wrong_protocol", "Compare scheme, port and path of the machine's address in the configuration: ws:// is for websockify, vnc:// for a VNC server.", "The computer for this sign-in offers no picture that can be shown here.";
    /// The external desktop offers no supported security type.
    ExternalSecurityUnsupported = "external_security_unsupported", "Set at that desktop what the detail says, for example VncAuth; then connect again in the page.", "The screen of the computer for this sign-in cannot be shown here.";
    /// The external desktop does not accept the configured user or password.
    ExternalPasswordRejected = "external_password_rejected", "Compare the machine's user and password_file in the configuration with the desktop's; then restart the server.", "The computer for this sign-in did not let us in.";
    /// The external desktop refuses the connection.
    ExternalRejected = "external_rejected", "Read the desktop's reason in the detail; after too many wrong passwords, wait or restart the VNC server, then connect again in the page.", "The computer for this sign-in refused the connection.";
    /// The external machine was removed from the configuration.
    ExternalRemoved = "external_removed", "Put the machine back into the configuration and start the server again, or cancel the session.", "The computer for this sign-in is no longer offered here.";
    /// The tool could not be started.
    CliNotStarted = "cli_not_started", "Compare the provider's `argv` with the programs of the image (`anteroom image show`); if the tool is not there, build the image with it: `anteroom image build`.", "{tool} could not be started.";
    /// The person declined at the provider.
    SignInDeclined = "sign_in_declined", "Start the tool again and allow the access, if it was declined by mistake.", "Access was not allowed, so you are not signed in.";
    /// The code of the sign-in expired before it was used, or was used already.
    CodeExpired = "code_expired", "Start the tool again for a new code, and use it once, before it expires.", "The code is no longer valid.";
    /// The provider does not let this account use the tool.
    AccountRefused = "account_refused", "Start the tool again with another account, or ask the account's administrator to allow the tool.", "{tool} does not work with this account.";
    /// The tool rejected a certificate because of its dates.
    CertificateNotValidNow = "certificate_not_valid_now", "Compare this host's clock with the time: machines start with it. If the clock is right, the certificate of the host in the tool's last lines has expired or is not valid yet.", "The clock here is wrong, or a page of {tool} has run out.";
    /// A disk of the guest is full.
    GuestDiskFull = "guest_disk_full", "Request another machine and store less in it; files in the machine need its memory: raise machines.memory_mib if the tool needs more.", "There was no space left on the temporary computer.";
    /// The tool ended with an error.
    CliFailed = "cli_failed", "Read the tool's last lines; then request another machine to start it again.", "{tool} stopped with an error.";
    /// The tool ended without an error and without a credential.
    CliExitedWithoutCredential = "cli_exited_without_credential", "Request another machine and sign in before the tool is closed; if it was signed in, compare the provider's `credential.paths` with where the tool writes.", "{tool} was closed before you were signed in.";
    /// The tool failed after its access to a host was denied.
    EgressDenied = "egress_denied", "Add the name to the provider's egress list if the tool needs it, then start a new session.", "{tool} needed an address that is not allowed here.";
    /// Allowed hosts cannot be reached from this host.
    EgressUnreachable = "egress_unreachable", "If the connection was refused, check the server at that address, and [egress.overrides] if it is from there; else this host's connection to the Internet and its name server. `anteroom doctor --network PROVIDER` checks each host; set [egress.proxy] if a proxy is the only way out.", "{tool} could not reach the Internet from here.";
    /// This server's proxy does not connect to allowed hosts.
    EgressProxy = "egress_proxy", "The evidence has the proxy's answer: compare [egress.proxy] with it, or ask the proxy's operator; `anteroom doctor --network PROVIDER` checks each host.", "The way from here to the Internet did not let {tool} through.";
    /// Something on the way shows certificates of an authority that machines do not trust.
    UnknownAuthority = "unknown_authority", "If a proxy inspects TLS here, add the certificate of its authority to egress.extra_ca_files and restart the server; `anteroom doctor --network PROVIDER` names the authority of each host.", "The connection of {tool} to the Internet could not be trusted here.";
    /// A file appeared that does not have this provider's credential format.
    CredentialInvalidFormat = "credential_invalid_format", "Finish the sign-in; if it is finished, the tool's version may write another format: compare the provider's `required` keys.", "{tool} saved your sign-in in a form that is not known here.";
    /// The tool reported that it is signed in, and no file appeared where the provider's credential is expected.
    CredentialNotFound = "credential_not_found", "Compare the provider's `credential.paths` with where the tool writes.", "{tool} finished, but your sign-in was not found where it was expected.";
    /// The tool's status command reports that it is not signed in.
    CredentialNotConfirmed = "credential_not_confirmed", "Finish the sign-in; if it is finished, compare the provider's `status_argv` and `status_matches` with the tool's version.", "{tool} did not confirm that you are signed in.";
    /// The guest's kernel killed a program because it ran out of memory.
    GuestOutOfMemory = "guest_out_of_memory", "Request another machine and keep fewer pages open in it; raise machines.memory_mib if the tool needs more.", "The temporary computer had too little memory for all that was open.";
    /// A program in the machine exits repeatedly.
    GuestCrashLoop = "guest_crash_loop", "Read the program's last lines; request another machine, and if it happens again build the image again: `anteroom image build`.", "A program on the temporary computer crashed again and again.";
    /// The machine is short of memory.
    GuestMemoryLow = "guest_memory_low", "Close pages in the machine's browser; raise machines.memory_mib if the tool needs more.", "The temporary computer has little memory left: close what you do not need in its browser.";
    /// The delivery of a complete credential fails.
    DeliveryFailing = "delivery_failing", "The machine keeps the credential and tries again: fix what the error names; `/health` names the dependency.", "Your sign-in could not be saved yet.";
    // Ended because of its machine.
    /// The machine's process exited by itself.
    MachineExited = "machine_exited", "Start a new session; the machine's receipt has its last console lines.", "The temporary computer stopped unexpectedly.";
    /// The machine's process was killed from outside.
    MachineKilled = "machine_killed", "Find out on the host who sent the signal, then start a new session.", "The temporary computer was switched off from outside.";
    /// A file that the machine maps could not be read, or the disk was full.
    MachineFileUnreadable = "machine_file_unreadable", "Free space on the file systems of the cache and state directories; if there was space, look for disk errors in the host's kernel log; then start a new session.", "A disk of this page's computer is full or damaged.";
    /// The host's kernel killed the machine because it ran out of memory.
    OutOfMemory = "out_of_memory", "Give the host more memory or lower machines.machines_max, then start a new session.", "There was too little memory for the temporary computer.";
    /// The machine reached its hard deadline.
    MachineDeadline = "machine_deadline", "Start a new session; raise sessions.session_s_max if people need longer.", "The temporary computer had run for as long as it may.";
    /// The machine's host had lost contact with its cluster.
    RenewDeadline = "renew_deadline", "Find out why the host reached neither etcd nor the database in time: its log and `anteroom doctor` name the errors; then start a new session.", "What runs the temporary computer was cut off from the others, so it was stopped.";
    /// The guest switched itself off.
    GuestPowerOff = "guest_power_off", "Start a new session; the machine's receipt has its last console lines.", "The temporary computer was switched off from within.";
    /// The guest's kernel panicked.
    GuestPanic = "guest_panic", "Start a new session; if it happens again, run `anteroom doctor` and build the image again.", "The temporary computer crashed.";
    /// QEMU could not continue to run the machine.
    VmmError = "vmm_error", "Check the host: the kernel log for KVM errors, the disk for errors; run `anteroom doctor`, then start a new session.", "The temporary computer could not go on because of a fault here.";
    /// The machine's process made a system call that no VMM makes.
    ForbiddenSystemCall = "forbidden_system_call", "Find out what the session's user ran and opened before you let them start again; revoke what was signed in there; update QEMU or Firecracker; the machine's receipt has its last console lines.", "Something on the temporary computer tried what is not allowed there, so it was stopped for your safety.";
    /// The machine was unresponsive for too long and was stopped.
    MachineUnresponsive = "machine_unresponsive", "Start a new session; if it happens again, give the host more processors or memory, or raise machines.liveness_timeout_s.", "The temporary computer did not respond any more.";
    /// The machine violated the protocol of a channel repeatedly and was stopped.
    ChannelViolation = "channel_violation", "Find out what the session's user ran and opened before you let them start again: no agent does this unless it is defective or under the control of another program.", "The temporary computer sent what it never should, so it was stopped for your safety.";
    /// The machine's keeper was killed.
    KeeperLost = "keeper_lost", "Find out on the host who ended the keeper process, then start a new session.", "What runs the temporary computer was switched off.";
    /// The machine could not be started.
    MachineStartFailed = "machine_start_failed", "Run `anteroom doctor`: it lists what is missing on this host.", "The temporary computer could not be started.";
    /// The machine was stopped although its session was active.
    MachineStopped = "machine_stopped", "Start a new session.", "The temporary computer was stopped from here.";
    /// The machine ended and the cause is not recorded.
    MachineEndUnknown = "machine_end_unknown", "Start a new session; the log has what the server saw.", "It is not known why the temporary computer stopped.";
    /// The machine was not ready in time.
    ReadyTimeout = "ready_timeout", "Check the stage and its last error; run `anteroom doctor`.", "The temporary computer did not start in time.";
    /// The machine runs another image or agent than the server expects.
    ImageMismatch = "image_mismatch", "Build the image again: `anteroom image build`.", "The temporary computer is of another version than is needed here.";
    /// A ready machine could not be claimed for this session.
    ClaimFailed = "claim_failed", "Start a new session; if it happens again, build the image again.", "The temporary computer started, but could not be prepared for you.";
    /// There is no image to start from.
    NoImage = "no_image", "Run `anteroom image build`.", "There is no computer here that could be started.";
    /// No capacity became available.
    NoCapacity = "no_capacity", "End sessions that are not needed, raise machines.machines_max, or try again later.", "No computer was free.";
    // Ended for another reason.
    /// The credential is stored.
    Completed = "completed", "Nothing to do.", "You are signed in.";
    /// The owner cancelled it.
    Cancelled = "cancelled", "Start a new session when you are ready.", "It was stopped before you were signed in.";
    /// It was idle for too long.
    IdleExpired = "idle_expired", "Start a new session; raise sessions.idle_s_max if people need longer.", "It was not used for too long.";
    /// It reached its maximum duration.
    DeadlineExpired = "deadline_expired", "Start a new session; raise sessions.session_s_max if people need longer.", "The time was up.";
    /// The machine had ended when the server restarted.
    ServerRestarted = "server_restarted", "Start a new session.", "The temporary computer was lost in a restart.";
    /// The provider was removed from the configuration.
    ProviderRemoved = "provider_removed", "Configure the provider again, or start a session for another one.", "{tool} is no longer offered here.";
    /// The credential to be used or renewed is no longer stored.
    CredentialDeleted = "credential_deleted", "Sign in again: it was deleted before it could be used.", "The saved sign-in was removed.";
    /// Another use of the credential must end first, or did not end in time.
    CredentialInUse = "credential_in_use", "Wait until the other use has ended, or end its session.", "The saved sign-in is in use elsewhere.";
    /// A renewal signed in another account than that of the credential.
    OtherAccount = "other_account", "Sign in with the account of the credential; for another account start a sign-in without `renews`.", "Another account was signed in than before.";
    /// An internal error of the server.
    InternalError = "internal_error", "The log has the cause: search it for the session's id.", "Something went wrong here.";
    /// No record explains the state.
    Unknown = "unknown", "Read the timeline and the log; please report this as a bug in the diagnosis.", "It is not known what happened.";
}

/// `GET …/diagnosis`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Diagnosis {
    /// The session.
    pub session: SessionId,
    /// When the diagnosis was made.
    pub at: String,
    /// The cause.
    pub verdict: Verdict,
    /// The verdict in one sentence, with details and times of this case.
    pub sentence: String,
    /// What to do.
    pub remedy: String,
    /// The timeline entries that prove it, oldest first.
    pub evidence: Vec<Evidence>,
    /// The status of every component from the session to the credential.
    pub chain: Vec<ComponentStatus>,
}

/// A timeline entry that proves the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Evidence {
    /// Its number on the timeline.
    pub number: u64,
    /// When.
    pub at: String,
    /// Its kind.
    pub kind: TimelineKind,
    /// Its sentence.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain_words::operator_word;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_are_the_json_form() {
        let codes: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.code()).collect();
        assert_eq!(codes.len(), Verdict::ALL.len());
        for verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.code());
            assert_eq!(serde_json::from_value::<Verdict>(verdict.code().into()).unwrap(), *verdict);
            assert!(verdict.remedy().ends_with('.'), "{verdict:?}");
        }
    }
    #[test]
    fn each_verdict_has_a_sentence_for_the_person_without_words_for_operators() {
        let sentences: HashSet<_> = Verdict::ALL.iter().map(|verdict| verdict.for_person()).collect();
        assert_eq!(sentences.len(), Verdict::ALL.len(), "each is different");
        for verdict in Verdict::ALL {
            let text = verdict.for_person();
            assert!(text.ends_with('.') && text.len() > 12, "{verdict:?}: {text}");
            assert!(!text.replace("{tool}", "").contains('{'), "{verdict:?}: {text}");
            assert_eq!(operator_word(text), None, "{verdict:?}: {text}");
            assert_ne!(text, verdict.remedy(), "{verdict:?}");
        }
    }
}

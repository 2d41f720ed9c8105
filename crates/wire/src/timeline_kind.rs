//! The kinds of timeline entries.
//!
//! The list is one table, so that the server, its database, pages, backends and the command line use the same text for the same fact.

use serde::{Deserialize, Serialize};
use std::fmt;

// The text is a `tt`, because the derive of `ToSchema` ignores `rename` with a `literal` fragment.
macro_rules! timeline_kinds {
    ($( $(#[$doc:meta])* $name:ident = $text:tt; )*) => {
        /// The kind of a timeline entry: what happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        pub enum TimelineKind {
            $( $(#[$doc])* #[serde(rename = $text)] $name, )*
            /// A kind that only a newer version knows. Its sentence and its data are kept.
            #[serde(rename = "unknown", other)]
            Unknown,
        }

        impl TimelineKind {
            /// All kinds that this version writes.
            pub const ALL: &'static [TimelineKind] = &[$( TimelineKind::$name, )*];

            /// The text in JSON and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$name => $text, )* Self::Unknown => "unknown" }
            }
        }

        /// Any other text is [`TimelineKind::Unknown`], so that a timeline of a newer version stays readable.
        impl From<&str> for TimelineKind {
            fn from(text: &str) -> Self {
                match text { $( $text => Self::$name, )* _ => Self::Unknown }
            }
        }
    };
}

timeline_kinds! {
    // The session.
    /// The session was accepted.
    Accepted = "accepted";
    /// The session ended with success.
    Completed = "completed";
    /// The session ended with a fault.
    Failed = "failed";
    /// The session was ended by its owner.
    Cancelled = "cancelled";
    /// The session ended at a deadline.
    Expired = "expired";
    /// Entries were dropped because the database could not be written.
    EntriesLost = "entries_lost";
    /// Reports of the machine were counted and not recorded: too many, or not of the provider.
    ReportsDropped = "reports_dropped";
    /// The stored entry was changed or inserted outside of this server.
    EntryTampered = "entry_tampered";
    /// The stored entry was removed outside of this server.
    EntryRemoved = "entry_removed";

    // The machine.
    /// A machine was requested for the session.
    MachineRequested = "machine_requested";
    /// No machine could be started.
    MachineStartFailed = "machine_start_failed";
    /// The machine is ready and claimed by the session.
    MachineReady = "machine_ready";
    /// The machine could not be claimed.
    ClaimFailed = "claim_failed";
    /// A restarted server took the running machine over.
    MachineAdopted = "machine_adopted";
    /// The channel to the machine was lost.
    ChannelLost = "channel_lost";
    /// The channel to the machine works again.
    ChannelReopened = "channel_reopened";
    /// The host of the cluster that held the session is lost; another host takes the session.
    HostLost = "host_lost";
    /// The user requested another machine.
    RestartRequested = "restart_requested";
    /// The request for another machine was rejected.
    RestartRejected = "restart_rejected";
    /// The machine is being replaced by another.
    MachineReplaced = "machine_replaced";
    /// The machine's process has ended.
    MachineExited = "machine_exited";
    /// Everything that belonged to the machine was removed from the host.
    MachineRemoved = "machine_removed";
    /// The removal of the machine failed.
    MachineNotRemoved = "machine_not_removed";
    /// The desktop of an external machine answers.
    DesktopConnected = "desktop_connected";
    /// The desktop of an external machine does not answer.
    DesktopConnectFailed = "desktop_connect_failed";

    // The programs and the memory of the machine.
    /// A boot stage of the machine failed.
    StageFailed = "stage_failed";
    /// A supervised program exited in the machine.
    ChildExited = "child_exited";
    /// A supervised program exits repeatedly.
    CrashLoop = "crash_loop";
    /// A program that exited repeatedly keeps running now.
    CrashLoopEnded = "crash_loop_ended";
    /// The machine is low on memory.
    MemoryLow = "memory_low";
    /// The machine has enough memory again.
    MemoryRecovered = "memory_recovered";
    /// The machine's kernel killed a program because memory ran out.
    OutOfMemory = "out_of_memory";

    // The tool and the sign-in.
    /// The tool, or the command of a credential use, was started.
    CliStarted = "cli_started";
    /// The tool, or the command of a credential use, exited.
    CliExited = "cli_exited";
    /// The tool shows or opens an address to sign in at.
    SignInUrl = "sign_in_url";
    /// The machine wants to open an address that is not a page of the provider.
    UnexpectedUrl = "unexpected_url";
    /// The tool shows a device code.
    DeviceCode = "device_code";
    /// The machine's browser is asked to open an address.
    BrowserOpening = "browser_opening";
    /// The machine's browser shows a page of another host than before.
    BrowserOpened = "browser_opened";
    /// The machine's browser did not open an address.
    BrowserNotOpened = "browser_not_opened";
    /// The tool shows a prompt.
    PromptOpened = "prompt_opened";
    /// The tool's prompt is no longer on its screen.
    PromptClosed = "prompt_closed";
    /// A rule answered a prompt.
    KeysPressed = "keys_pressed";
    /// Pasted text was passed to the tool.
    Pasted = "pasted";
    /// Pasted text was not passed to the tool.
    PasteRejected = "paste_rejected";
    /// The tool reports that it is signed in.
    ToolSignedIn = "tool_signed_in";
    /// The tool reports that the sign-in failed.
    ToolFailed = "tool_failed";
    /// The user chose another sign-in method.
    MethodChosen = "method_chosen";
    /// The tool is being restarted with another sign-in method.
    MethodSwitched = "method_switched";
    /// The chosen method was sent to the machine again, because it used another one.
    MethodResent = "method_resent";

    // The credential.
    /// A credential file is incomplete.
    CandidateRejected = "candidate_rejected";
    /// A complete credential was found and is being delivered.
    CandidateAccepted = "candidate_accepted";
    /// A delivery of the credential failed and will be retried.
    DeliveryRetry = "delivery_retry";
    /// A delivery of the credential was rejected.
    DeliveryRejected = "delivery_rejected";
    /// The credential stays in the machine, as the provider's policy requires.
    CredentialKeptInMachine = "credential_kept_in_machine";
    /// The session waits until another use of the credential has ended.
    CredentialUseWaiting = "credential_use_waiting";
    /// The other use of the credential has ended; the session continues.
    CredentialUseTurn = "credential_use_turn";
    /// A stored credential was decrypted for the machine.
    CredentialUnsealed = "credential_unsealed";
    /// The tool confirmed or rejected a stored credential.
    CredentialChecked = "credential_checked";
    /// The check of a stored credential had no result.
    CredentialCheckInconclusive = "credential_check_inconclusive";
    /// The command that uses a credential exited, and a credential that it changed was delivered.
    UseCompleted = "use_completed";
    /// A credential that was changed during its use was stored.
    CredentialRefreshed = "credential_refreshed";
    /// A credential that was changed during its use was not stored.
    CredentialNotRefreshed = "credential_not_refreshed";
    /// The owner fetched the credential.
    CredentialLeased = "credential_leased";
    /// The owner deleted the credential.
    CredentialDeleted = "credential_deleted";
    /// The credential was deleted because it was not fetched in time.
    CredentialDeliveryExpired = "credential_delivery_expired";

    // Webhook messages.
    /// A webhook message was delivered.
    WebhookDelivered = "webhook_delivered";
    /// A webhook message was not delivered and will be sent again.
    WebhookFailed = "webhook_failed";
    /// A webhook message will not be sent again.
    WebhookAbandoned = "webhook_abandoned";

    // Egress.
    /// The machine connected to a host for the first time.
    EgressAllowed = "egress_allowed";
    /// A connection of the machine to a host was denied or failed.
    EgressDenied = "egress_denied";
    /// An operator allowed the machine a host that was denied to it.
    EgressGranted = "egress_granted";
    /// The machine requested too many hosts; further ones are not recorded.
    EgressFull = "egress_full";
    /// The number of connections and bytes of the machine to each host.
    EgressTotals = "egress_totals";

    // Viewers.
    /// A viewer agreed to sign in for the session's owner.
    ConsentGiven = "consent_given";
    /// A viewer connected to the desktop.
    ViewerJoined = "viewer_joined";
    /// A viewer's connection to the desktop ended.
    ViewerDisconnected = "viewer_disconnected";
    /// A viewer's connection to the terminal ended.
    TerminalDisconnected = "terminal_disconnected";
    /// A viewer's WebSocket was rejected.
    ViewerRejected = "viewer_rejected";
    /// The page noticed what a reverse proxy on its way does wrong.
    ProxyFault = "proxy_fault";
    /// A request for a viewer's ticket was rejected.
    TicketRejected = "ticket_rejected";
}

impl TimelineKind {
    /// Whether the entry records the end of the session; a session has one such entry.
    pub fn is_session_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

impl fmt::Display for TimelineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn timeline_kind_texts_are_unique_and_are_the_json_form() {
        let texts: HashSet<_> = TimelineKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(texts.len(), TimelineKind::ALL.len());
        for kind in TimelineKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(serde_json::from_value::<TimelineKind>(kind.as_str().into()).unwrap(), *kind);
            assert_eq!(TimelineKind::from(kind.as_str()), *kind);
        }
    }

    #[test]
    fn a_kind_of_a_newer_version_is_unknown_and_not_an_error() {
        assert_eq!(TimelineKind::from("machine_teleported"), TimelineKind::Unknown);
        let parsed: TimelineKind = serde_json::from_value("machine_teleported".into()).unwrap();
        assert_eq!(parsed, TimelineKind::Unknown);
        assert_eq!(serde_json::to_value(parsed).unwrap(), "unknown");
    }
}

//! The reasons for which a session ends: stable code, sentence, remedy.
//!
//! The code is stored with the session and shown in its view, its timeline and its webhook messages. A request about an ended session
//! is rejected with [`Problem::Ended`](crate::Problem::Ended), and its sockets are closed with the same code.

macro_rules! end_reasons {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal, $remedy:literal, $for_person:literal; )*) => {
        /// Why a session ended, or why its machine was replaced: the reason for which the session would have ended without
        /// another machine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EndReason { $( $(#[$doc])* $name, )* }

        impl EndReason {
            /// All reasons, for tables and tests.
            pub const ALL: &'static [EndReason] = &[$( EndReason::$name, )*];

            /// The stable code, for programs. It identifies the reason among the end reasons; an API error may have the same code
            /// if it has the same cause.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// One sentence, for operators and backends: what happened.
            pub fn sentence(self) -> &'static str { match self { $( Self::$name => $sentence, )* } }
            /// One sentence, for operators and backends: what to do.
            pub fn remedy(self) -> &'static str { match self { $( Self::$name => $remedy, )* } }
            /// For the person at a session's page: what happened and what to do.
            pub fn for_person(self) -> &'static str { match self { $( Self::$name => $for_person, )* } }
        }
    };
}

end_reasons! {
    /// The session is complete.
    Completed = "completed", "The session is complete: the credential is stored.", "Nothing to do.", "It is finished. You can close this page.";
    /// The command with a stored credential has ended.
    UseCompleted = "use_completed", "The command with the stored credential has ended.", "Nothing to do.", "It is finished. You can close this page.";
    /// The owner cancelled the session.
    Cancelled = "cancelled", "The session was cancelled.", "Start a new one.", "It was stopped. You can close this page.";
    /// The session was idle for too long.
    IdleExpired = "idle_expired", "The session was idle for too long.", "Start a new one.", "Closed because it was not used for too long. Please start again.";
    /// The session reached its maximum duration.
    DeadlineExpired = "deadline_expired", "The session reached its maximum duration.", "Start a new one.", "Time is up. Please start again.";
    /// The machine ended too often.
    MachineFailed = "machine_failed", "The machine ended and the session had no restart left.", "Start a new session; the timeline has the machine's end.", "The temporary computer stopped too often. Please start again.";
    /// A program in the machine made a system call that no VMM makes.
    MachineCompromised = "machine_compromised", "A program in the machine may have tried to break out, so the machine was stopped.", "Do not start a new session before an operator has read the diagnosis.", "The temporary computer was stopped for your safety. Ask the people who sent you here before you start again.";
    /// The machine was not ready in time.
    ReadyTimeout = "ready_timeout", "The machine was not ready in time.", "Start a new session; the timeline names the stage it waited for.", "The temporary computer did not start in time. Please start again.";
    /// The agent uses another protocol or runs another image.
    AgentMismatch = "agent_mismatch", "The machine runs another image or agent than this server expects.", "Build the image again: `anteroom image build`.", "The temporary computer could not be used. Tell the people who sent you here.";
    /// The server restarted and could not adopt the machine.
    ControllerRestarted = "controller_restarted", "The server restarted and the machine could not be taken over.", "Start a new one.", "The temporary computer was lost in a restart. Please start again.";
    /// No capacity for a machine of this session.
    NoCapacity = "no_capacity", "There is no capacity for another machine.", "Try again later.", "No computer is free. Please try again later.";
    /// No image or template to clone from.
    NoImage = "no_image", "There is no machine image to start from.", "Run `anteroom image build`.", "No computer could be started. Tell the people who sent you here.";
    /// The session's provider is not in the configuration any more.
    ProviderRemoved = "provider_removed", "The session's provider is no longer configured.", "Configure the provider again, or start a session with another one.", "This tool is no longer offered here. Choose another one.";
    /// The credential that the session uses or renews was deleted.
    CredentialDeleted = "credential_deleted", "The credential of this session is no longer stored.", "Sign in again.", "The saved sign-in was removed. Please sign in again.";
    /// Another use of the credential did not end in time.
    CredentialInUse = "credential_in_use", "Another use of this credential has not ended.", "End the other use, or wait until it has ended, then try again.", "This saved sign-in is in use elsewhere. Please try again later.";
    /// A renewal that signed in another account.
    OtherAccount = "other_account", "Another account was signed in than the credential's.", "Sign in with the account of the credential; for another account start a sign-in without `renews`.", "You signed in with another account than before. Start again and use the earlier account.";
    /// The session's row was changed outside of the server.
    SessionTampered = "session_tampered", "What is stored about this session was changed outside of this server, so it was ended.", "Start a new session, and tell the operator: `anteroom doctor` names the row.", "It was ended for your safety. Please start again, and tell the people who run this page.";
    /// An internal error.
    Internal = "internal", "Something failed inside the server.", "The server's log has the cause; search it for the time and the session.", "Something went wrong here. Please start again.";
}

impl EndReason {
    /// One sentence, for operators and backends: what happened, if the machine is replaced because of it.
    pub fn sentence_of_replacement(self) -> &'static str {
        if self == Self::MachineFailed { "The machine ended and is being replaced." } else { self.sentence() }
    }

    /// The HTTP status of a request about an ended session.
    pub const HTTP_STATUS: u16 = 410;
    /// The WebSocket close code of an ended session.
    pub const CLOSE_CODE: u16 = 4410;

    /// Whether another machine may continue the session if its machine ended for this reason. A compromised machine is not replaced:
    /// its successor would run the same program for the same user.
    pub fn permits_replacement(self) -> bool {
        self != Self::MachineCompromised
    }

    /// The reason with this code, if there is one.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problem;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique() {
        let codes: HashSet<_> = EndReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), EndReason::ALL.len());
        for reason in EndReason::ALL {
            assert_eq!(EndReason::from_code(reason.code()), Some(*reason));
        }
    }

    #[test]
    fn a_replacement_is_not_reported_as_the_last_machine() {
        for reason in EndReason::ALL.iter().filter(|reason| reason.permits_replacement()) {
            assert!(!reason.sentence_of_replacement().contains("no restart"), "{reason:?}");
        }
    }

    #[test]
    fn every_end_closes_with_4410_and_its_body_names_the_reason() {
        for reason in EndReason::ALL {
            let problem = Problem::Ended(*reason);
            assert_eq!((problem.close_code(), problem.http_status()), (4410, 410), "{reason:?}");
            assert_eq!(problem.with_detail("").problem(), Some(problem));
        }
    }

    #[test]
    fn codes_shared_with_an_api_error_have_the_same_cause() {
        let shared = EndReason::ALL.iter().filter(|reason| Problem::from_code(reason.code()).is_some());
        let shared: Vec<_> = shared.copied().collect();
        assert_eq!(
            shared,
            [EndReason::NoCapacity, EndReason::CredentialInUse, EndReason::OtherAccount, EndReason::Internal]
        );
        for reason in shared {
            let error = Problem::from_code(reason.code()).unwrap();
            assert_eq!((error.sentence(), error.remedy()), (reason.sentence(), reason.remedy()));
        }
    }
}

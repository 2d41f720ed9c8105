//! The situations of a session: for each, one sentence for the person at its page and one for operators, backends and the command line.
//!
//! One table, so that no situation lacks the sentence for one of the two. Values of the case replace the names in braces.

use crate::PersonValues;
use serde::{Deserialize, Serialize};

// The code is a `tt`, because the derive of `ToSchema` ignores `rename` with a `literal` fragment.
macro_rules! situations {
    ($( $(#[$doc:meta])* $name:ident = $code:tt, $phase:ident, $title:literal, $for_person:literal, $for_operator:literal; )*) => {
        /// What a session waits for, or how it ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        pub enum Situation { $( $(#[$doc])* #[serde(rename = $code)] $name, )* }

        impl Situation {
            /// All situations, for tables and tests.
            pub const ALL: &'static [Situation] = &[$( Situation::$name, )*];

            /// The stable code, for programs.
            pub fn code(self) -> &'static str { match self { $( Self::$name => $code, )* } }
            /// Which side acts next, or how it ended.
            pub fn phase(self) -> Phase { match self { $( Self::$name => Phase::$phase, )* } }
            /// The title of the person's page.
            pub fn title(self) -> &'static str { match self { $( Self::$name => $title, )* } }
            /// For the person: what happened and what to do. May be empty.
            pub fn for_person(self) -> &'static str { match self { $( Self::$name => $for_person, )* } }
            /// For operators, backends and the command line: what happened and what to do.
            pub fn for_operator(self) -> &'static str { match self { $( Self::$name => $for_operator, )* } }
        }
    };
}

situations! {
    // Before the tool runs.
    /// Waits in the queue for a machine.
    Queued = "queued", Working, "Waiting for a free computer", "{place}", "Wait: the session is number {position} in the queue for a machine.";
    /// A machine is being made ready.
    Preparing = "preparing", Working, "Getting a computer ready…", "This takes a few seconds.", "Wait a moment: the machine is starting.";
    /// The machine ended and another one is being made ready.
    Replacing = "replacing", Working, "Getting a new computer ready…", "The temporary computer stopped. A new one is being prepared; you sign in again there.", "Wait a moment: the machine is being replaced. The sign-in restarts automatically.";
    /// The tool has shown neither an address nor a code nor a prompt yet.
    ToolStarting = "tool_starting", Working, "Starting {tool}…", "", "Wait a moment: {tool} is starting.";

    // The sign-in.
    /// The person must act.
    YourTurn = "your_turn", YourTurn, "Your turn", "{instruction}", "{instruction}";
    /// The tool has shown an address and no code that its descriptor's rule finds.
    CodeInTerminal = "code_in_terminal", YourTurn, "The code is in the terminal", "{tool} shows the code in its terminal. Open the terminal and copy the code from there.", "{tool} has shown no text that the method's sign_in.code matches: read the code in the terminal, and compare the rule with it.";
    /// The tool has the person's answer and has not reacted yet.
    Checking = "checking", Working, "{tool} is checking…", "{tool} is checking what you sent. Please keep this page open.", "Wait a moment: {tool} is checking the answer that it got.";
    /// The machine's browser has not shown the page of the sign-in yet, and only it can show it.
    PageOpening = "page_opening", Working, "Opening the sign-in page…", "The remote browser is opening a page of {host}.", "Wait a moment: the machine's browser is opening a page of {host}.";
    /// The machine's browser cannot reach an allowed host of the sign-in.
    PageUnreachable = "page_unreachable", NeedsAttention, "The sign-in page cannot be reached", "The remote browser cannot reach {host} from here. Try again, or tell {owner}.", "The machine's browser could not reach {host}. Check this host's connection to the Internet and its name server, then open the page again.";
    /// The page in the machine's browser is on a host that the provider's egress list does not allow.
    PageDenied = "page_denied", NeedsAttention, "This page is not allowed here", "This page needs {host}, which is not allowed here. Ask {owner} to allow it.", "The page of the sign-in is on {host}, which was denied to the machine's browser. Add the name to the provider's egress list if the sign-in needs it.";
    /// The machine's browser did not open the page.
    PageNotOpened = "page_not_opened", NeedsAttention, "The sign-in page did not open", "The remote browser could not open a page of {host}. Try again, or tell {owner}.", "The machine's browser did not open a page of {host}; the timeline has the reason. Open it again, or request another machine.";
    /// The tool refuses the account until a setting of the provider is given.
    SettingNeeded = "setting_needed", YourTurn, "One more entry is needed", "{tool} cannot use this account without it. Fill in the field below.", "{tool} refuses the account until the setting that it asks for is given: answer the prompt, or give it in settings when a session is started.";
    /// The session has transferred all bytes that it may.
    DataUsedUp = "data_used_up", Failed, "This sign-in used too much data", "It has used all the data that it may transfer. Please start again.", "The session has transferred all of its bytes; the machine reaches no host any more. Start a new session.";
    /// The tool is signed in; its credential is being found, checked and delivered.
    Saving = "saving", Working, "You are signed in. Saving it…", "Please keep this page open for a moment.", "Wait a moment: {tool} is signed in and its credential is being stored.";
    /// The delivery of the credential is repeated after an error.
    SavingDelayed = "saving_delayed", NeedsAttention, "You are signed in. Saving it takes longer than usual…", "Nothing is lost. Please keep this page open.", "Wait: {tool} is signed in, and the delivery of its credential is repeated. The diagnosis has the error.";
    /// The tool is signed in, and no credential was found, or it was rejected.
    NotSaved = "not_saved", Failed, "Your sign-in could not be saved", "{tool} took your sign-in, but it could not be saved here. Tell {owner}.", "{tool} is signed in, but its credential was not found, not confirmed or rejected. The diagnosis has the reason.";
    /// The tool is signed in, and its credential stays in the machine.
    KeptInMachine = "kept_in_machine", Connected, "You are signed in", "Your sign-in stays on this temporary computer and is deleted with it. Press Stop when you are done.", "{tool} is signed in; the credential stays in this machine. End the session when you are done: the credential is deleted with the machine.";
    /// An allowed host of the provider cannot be reached.
    HostUnreachable = "host_unreachable", NeedsAttention, "{tool} has no connection", "{tool} could not reach {host} from here. Try again, or tell {owner}.", "{tool} could not reach {host}. Check this host's connection to the Internet and its name server, then start the tool again.";
    /// The tool failed after its access to a host was denied by the provider's egress list.
    HostDenied = "host_denied", Failed, "{tool} could not connect", "{tool} needs an address that is not allowed here. Tell {owner}.", "{tool} failed after its access to {host} was denied. Add the name to the provider's egress list if the tool needs it.";
    /// The person declined at the provider.
    Declined = "declined", NeedsAttention, "Not allowed", "You chose not to allow access. Try again if that was a mistake.", "The user declined at the provider. Start {tool} again to repeat the sign-in.";
    /// The provider does not let the account sign in by this method.
    AccountRefused = "account_refused", NeedsAttention, "Not possible with this account", "{tool} does not let this account sign in this way. Another way or another account may work.", "The provider does not let this account sign in by this method; the tool's last lines have its words. Choose another sign-in method or another account.";
    /// The code of the sign-in was wrong, used before, or not used in time.
    CodeExpired = "code_expired", NeedsAttention, "The code is no longer valid", "{tool} did not accept the code, or its time is up. Get a new code.", "The code of the sign-in is not valid, or no longer valid. Start {tool} again for a new one.";
    /// The tool shows that the sign-in failed.
    SignInFailed = "sign_in_failed", NeedsAttention, "The sign-in did not work", "{tool} did not accept the sign-in. Try again.", "{tool} reports that the sign-in failed. Start it again, or choose another sign-in method.";
    /// The tool ended before the sign-in was finished.
    ToolEnded = "tool_ended", NeedsAttention, "The sign-in stopped", "The sign-in stopped before it finished.", "{tool} has ended. Start it again, or choose another sign-in method.";
    /// The tool cannot be started.
    ToolMissing = "tool_missing", Failed, "{tool} cannot start", "{tool} is not installed here. Tell {owner}.", "{tool} cannot be started in the machine. Build the image again with the tool in it: `anteroom image build`.";

    // The end.
    /// The credential is stored.
    Connected = "connected", Connected, "Connected", "{tool} is connected. You can close this page.", "Nothing more to do: the credential is stored.";
    /// Ended by its owner or its user.
    Cancelled = "cancelled", Ended, "Stopped", "You can close this page. Nothing was saved.", "The session was cancelled. Start a new session when you are ready.";
    /// It was idle for too long.
    IdleExpired = "idle_expired", Ended, "Closed", "Closed because it was not used for {idle_time}. Nothing was saved.", "The session was idle for too long. Start a new session when you are ready.";
    /// It reached its maximum duration.
    DeadlineExpired = "deadline_expired", Ended, "Closed", "Time is up ({total_time}). Nothing was saved.", "The session reached its maximum duration. Start a new session when you are ready.";
    /// Its last machine ended.
    MachinesFailed = "machines_failed", Failed, "This did not work", "The temporary computer stopped {machines}. Nothing was saved.", "Start a new session when you are ready; the timeline has the end of each machine.";
    /// Ended for another reason.
    Failed = "failed", Failed, "This did not work", "{reason} Nothing was saved.", "Start a new session when you are ready.";

    // The use of a stored credential.
    /// A command uses the credential.
    UseRunning = "use_running", Working, "{tool} is running", "There is nothing to do.", "The command runs in the terminal.";
    /// The command has ended.
    UseEnded = "use_ended", Ended, "{tool} is done", "You can close this page.", "The command has ended.";
}

/// Which side acts next in a session, or how it ended. Pages show it as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Phase {
    /// The server or the tool works: wait.
    Working,
    /// The person acts.
    YourTurn,
    /// Something went wrong; the person can act on it.
    NeedsAttention,
    /// It failed.
    Failed,
    /// The tool is signed in.
    Connected,
    /// It ended without a fault and without a sign-in.
    Ended,
}

/// What a button of the person's page does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum PersonAction {
    /// Open the sign-in page in the person's own browser.
    OpenLink,
    /// Sign in in the browser of the machine.
    UseDesktop,
    /// Answer the tool in its terminal.
    UseTerminal,
    /// Start the tool again in the same machine: `POST …/method` with the present method.
    RestartTool,
    /// Request another machine: `POST …/restart`.
    ReplaceMachine,
    /// Start another session of the same provider.
    StartSession,
    /// Choose another of the provider's methods: `POST …/method`.
    ChangeMethod,
    /// Open the sign-in address in the browser of the machine again: `POST …/open-url`.
    ReopenPage,
}

/// What the person can do if the page of the sign-in refuses: shown while the tool starts and while it is their turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct IfPageRefuses {
    /// One or two sentences.
    pub sentence: String,
    /// Another method to change to; `null`: none is better.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub method: Option<String>,
    /// Whether the person's own browser is the way out, with the same running tool.
    pub in_own_browser: bool,
}

/// Google's pages may refuse a browser that runs on another machine.
pub const GOOGLE_MAY_REFUSE: &str =
    "Google may refuse to sign you in here and say that this browser may not be secure. Then use your own browser.";

/// Why a person can do nothing in the remote browser at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RemoteBrowserState {
    /// One of the situations of a page.
    pub situation: Situation,
    /// Which side acts next.
    pub phase: Phase,
    /// A few words: what happens now.
    pub title: String,
    /// What happened and what to do.
    pub sentence: String,
    /// The host of the page.
    pub host: String,
    /// What the person can do, the recommended action first.
    pub actions: Vec<PersonAction>,
    /// Since when the page is being opened.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub since: Option<String>,
    /// The median of the seconds that the last pages of this tool took; `null`: there were too few.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub usual_s: Option<u64>,
}

/// The situation of a session as its page shows it to a person: no names of the API, of files or of settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ForPerson {
    /// The situation.
    pub situation: Situation,
    /// Which side acts next.
    pub phase: Phase,
    /// A few words: what happens now.
    pub title: String,
    /// What happened and what to do; may be empty.
    pub sentence: String,
    /// After a failure: its cause in one sentence, if it says more than `sentence`.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub why: Option<String>,
    /// The values in these texts, for texts in other languages.
    pub values: PersonValues,
    /// What the person can do, the recommended action first.
    pub actions: Vec<PersonAction>,
    /// The provider's other methods with which the person can go on; those whose page the machine cannot reach are left out.
    pub other_methods: Vec<String>,
    /// Why the person can do nothing in the remote browser; `null`: the page is shown there, or the method does not use it.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub remote_browser: Option<RemoteBrowserState>,
    /// What to do if the page of the sign-in refuses; `null`: nothing is known to refuse.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub if_refused: Option<IfPageRefuses>,
    /// When the tool was started, while it has shown nothing yet.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub since: Option<String>,
    /// The median of the seconds that this server's last starts of this tool took; `null`: there were too few.
    #[cfg_attr(feature = "utoipa", schema(required))]
    pub usual_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_are_the_json_form() {
        let codes: HashSet<_> = Situation::ALL.iter().map(|situation| situation.code()).collect();
        assert_eq!(codes.len(), Situation::ALL.len());
        for situation in Situation::ALL {
            assert_eq!(serde_json::to_value(situation).unwrap(), situation.code());
        }
    }

    #[test]
    fn only_a_finished_sign_in_is_connected() {
        let connected: Vec<_> =
            Situation::ALL.iter().filter(|situation| situation.phase() == Phase::Connected).collect();
        assert_eq!(connected, [&Situation::KeptInMachine, &Situation::Connected]);
    }
}

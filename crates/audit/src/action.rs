//! What is recorded.

/// How the records of an action are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// Each deed is a record.
    Each,
    /// Deeds that a viewer or a stranger can repeat without end: the first is a record, the others of an interval are counted.
    Counted,
    /// The deed reveals a secret: it is refused if it cannot be recorded, and its record is on the disk before it is done.
    BeforeDeed,
}

macro_rules! actions {
    ($( $(#[doc = $doc:literal])+ $name:ident = $text:literal, $recording:ident; )*) => {
        /// A deed or an event that is recorded.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $( $(#[doc = $doc])+ $name, )* }

        impl Action {
            /// All actions, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The text in records.
            pub fn as_str(self) -> &'static str { match self { $( Self::$name => $text, )* } }

            /// What it means, for the documentation.
            pub fn description(self) -> &'static str { match self { $( Self::$name => concat!($($doc),+).trim_ascii(), )* } }

            /// How its records are written.
            pub fn recording(self) -> Recording { match self { $( Self::$name => Recording::$recording, )* } }
        }
    };
}

actions! {
    /// A sign-in session was requested.
    SessionStart = "session.start", Each;
    /// A session was cancelled.
    SessionCancel = "session.cancel", Counted;
    /// The replacement of a session's machine was requested.
    SessionRestart = "session.restart", Counted;
    /// The sign-in method was changed.
    SessionMethod = "session.method", Counted;
    /// A ticket for a desktop or terminal was created.
    TicketCreate = "ticket.create", Counted;
    /// A viewer was connected to the desktop; with `view_only` it cannot act.
    DesktopOpen = "desktop.open", Counted;
    /// A viewer's connection to the desktop ended; `bytes_from_viewer` and `duration_ms` describe it.
    DesktopClose = "desktop.close", Counted;
    /// A viewer was connected to the terminal.
    TerminalOpen = "terminal.open", Counted;
    /// A viewer's connection to the terminal ended.
    TerminalClose = "terminal.close", Counted;
    /// The terminal's screen was read as text.
    ScreenRead = "screen.read", Counted;
    /// The address of the sign-in was read.
    SignInUrlRead = "sign_in_url.read", Counted;
    /// A viewer typed, or moved the mouse, in the desktop or terminal; once for each connection, never what was typed.
    InputType = "input.type", Counted;
    /// A text was pasted into the tool, never which one.
    InputPaste = "input.paste", Counted;
    /// An address was opened in the machine's browser, never which one.
    InputOpenUrl = "input.open_url", Counted;
    /// A user agreed or declined to go on with a sign-in.
    SessionConsent = "session.consent", Counted;
    /// A host that was denied to the machine of a session was allowed for that session; `host` names it.
    HostGrant = "host.grant", Each;
    /// A machine delivered a credential.
    CredentialStore = "credential.store", Counted;
    /// The files of a credential were handed to their owner. `attempted` is written before, the outcome after it.
    CredentialLease = "credential.lease", BeforeDeed;
    /// A session was started that uses a credential. `attempted` is written before, the outcome after it.
    CredentialUse = "credential.use", BeforeDeed;
    /// A webhook message with a credential was sent. `attempted` is written before, the outcome after it.
    CredentialWebhook = "credential.webhook", BeforeDeed;
    /// A credential was deleted.
    CredentialDelete = "credential.delete", Each;
    /// A login link was created.
    LoginLinkCreate = "login_link.create", Each;
    /// A login link was redeemed, or a person signed in at the identity provider.
    Login = "login", Counted;
    /// A browser was signed out.
    SignOut = "sign_out", Counted;
    /// A person confirmed a deed that needs a fresh confirmation.
    Confirm = "confirm", Counted;
    /// A helper was invited.
    Invitation = "invitation", Counted;
    /// The access of a helper, or an invitation that was not used yet, was ended; `helper` has its id.
    HelperEnd = "helper.end", Counted;
    /// An API token was created.
    TokenCreate = "token.create", Each;
    /// An API token was replaced by a new one.
    TokenRotate = "token.rotate", Each;
    /// An API token was revoked.
    TokenRevoke = "token.revoke", Each;
    /// Requests without a valid caller, counted by peer and route.
    IdentificationFailed = "identification.failed", Counted;
    /// A known caller was refused what belongs to another, or needs another role; `route` names it.
    AccessRefused = "access.refused", Counted;
    /// A support bundle was created.
    BundleCreate = "bundle.create", Each;
    /// A backup was sent to another host: the sealed database and the audit trail. `attempted` is written before, the outcome after it.
    BackupCreate = "backup.create", BeforeDeed;
    /// The database was checked at the request of an operator.
    DatabaseCheck = "database.check", Each;
    /// The server's log was read through the API.
    LogRead = "log.read", Counted;
    /// Orphaned resources were listed.
    LeaksList = "leaks.list", Counted;
    /// A reconciliation was requested.
    ReconcileRun = "reconcile.run", Each;
    /// The audit trail was read or verified through the API.
    AuditRead = "audit.read", Counted;
    /// A key was added to the key ring.
    KeyRotate = "key.rotate", Each;
    /// A key was removed from the key ring.
    KeyRetire = "key.retire", Each;
    /// A row of the database was found that was changed outside of this server; `table` and `row` name it.
    RowTampered = "row.tampered", Each;
    /// All rows of the database got MACs as they were: at the first start after an upgrade, or by `anteroom keys accept-rows`.
    RowsAccept = "rows.accept", Each;
    /// A message was sent to the webhook's receivers to test them.
    WebhookTest = "webhook.test", Each;
    /// A webhook message was sent again.
    WebhookResend = "webhook.resend", Each;
    /// A user's data was erased.
    DataErase = "data.erase", Each;
    /// The first start with a database that was restored `from` a `backup`, an `export` or a `dump`; `made_at` is the time of the copy (of a dump:
    /// of its last timeline entry), `restored_at` that of the restore.
    BackupRestore = "backup.restore", Each;
    /// The server was started; `settings_changed` names the settings that differ from those of the start before.
    ServerStart = "server.start", Each;
    /// The configuration was read again; `settings_changed` names the settings that took effect.
    ConfigReload = "config.reload", Each;
    /// An invitation for a machine that joins the cluster was made.
    HostInvite = "host.invite", Each;
    /// A machine got the certificate of a host; `host` is its id.
    HostJoin = "host.join", Each;
    /// A host takes no further sessions, or takes them again.
    HostDrain = "host.drain", Each;
    /// An operator had the sessions of a dead host taken away.
    HostFence = "host.fence", Each;
    /// A host was removed from the cluster.
    HostRemove = "host.remove", Each;
    /// The server was stopped.
    ServerStop = "server.stop", Each;
    /// The first record of a file; `segment` is the number of the file.
    TrailSegment = "trail.segment", Each;
    /// The trail was found incomplete at a start: an unfinished line was removed, or records are missing that a head names.
    TrailRecovered = "trail.recovered", Each;
    /// Records could not be written for a time; `lost` counts them by action.
    TrailGap = "trail.gap", Each;
    /// The current file was replaced or changed under the running server.
    TrailDamaged = "trail.damaged", Each;
    /// The oldest files were removed; `last_seq` and `last_hash` link the oldest one that is left.
    TrailPrune = "trail.prune", Each;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// `ANTEROOM_WRITE_DOCS=1` rewrites the page.
    #[test]
    fn docs_audit_actions_matches_the_actions() {
        let mut wanted = String::from(
            "# Actions of the audit trail\n\nWritten by a test of `crates/audit/src/action.rs`; [audit.md](audit.md) describes the trail.\n\n\
             | action | what it records | records |\n|---|---|---|\n",
        );
        for action in Action::ALL {
            let records = match action.recording() {
                Recording::Each => "each",
                Recording::Counted => "the first of an interval, then a count",
                Recording::BeforeDeed => "each; the deed is refused if it cannot be recorded",
            };
            writeln!(wanted, "| `{}` | {} | {records} |", action.as_str(), action.description()).unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit_actions.md");
        if std::env::var_os("ANTEROOM_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == wanted, "docs/audit_actions.md differs from the actions; ANTEROOM_WRITE_DOCS=1 writes it");
    }
}

use super::CredentialTurns;
use anteroom_wire::CredentialId;

/// A lease that waits; dropping it ends the wait.
pub(super) struct LeaseWait<'a>(&'a CredentialTurns, &'a CredentialId);

impl<'a> LeaseWait<'a> {
    pub(super) fn begin(turns: &'a CredentialTurns, credential: &'a CredentialId) -> Self {
        turns.lines.lock().by_credential.entry(credential.clone()).or_default().leases_waiting += 1;
        Self(turns, credential)
    }
}

impl Drop for LeaseWait<'_> {
    fn drop(&mut self) {
        let Self(turns, credential) = self;
        let mut lines = turns.lines.lock();
        if let Some(line) = lines.by_credential.get_mut(credential) {
            line.leases_waiting -= 1;
        }
        lines.remove_if_unused(credential);
        drop(lines);
        turns.changed.send_replace(());
    }
}

//! The verdict that the page of a failed sign-in shows to the person.

use super::{
    context::SessionContext,
    diagnose::{self, DiagnosisInput, ExternalMachineConfig, TIMELINE_ENTRIES_MAX, ToolWords},
};
use crate::unix_time;
use anteroom_store::{SessionOutcome, SessionRow};
use anteroom_wire::diagnosis::Verdict;

/// Why the sign-in failed or expired; `None`: it did neither, the reason of its end says as much, or its timeline cannot be read. A
/// timeline that was changed outside of the server must not make the session's page fail.
pub(super) async fn cause_of(context: &SessionContext, row: &SessionRow) -> Option<Verdict> {
    let end = row.end().filter(|end| matches!(end.outcome, SessionOutcome::Failed | SessionOutcome::Expired))?;
    if row.purpose.credential_use().is_some() {
        return None;
    }
    let verdict = match context.settled_verdicts.get(&row.id) {
        Some(known) => known,
        None => {
            let timeline = context.store.list_timeline(&row.id, 0, TIMELINE_ENTRIES_MAX).await.ok()?;
            let external =
                row.external_machine.as_ref().map(|_| ExternalMachineConfig { is_configured: true, address: None });
            let providers = context.providers();
            let provider = providers.get(&row.provider);
            let input = DiagnosisInput {
                now_ms: unix_time::now_unix_ms(),
                tool: "",
                cli: provider.map_or("", |provider| provider.program()),
                words: provider.map(ToolWords::of).unwrap_or_default(),
                unused_proxy_variable: None,
                row,
                supervisor: None,
                timeline: &timeline,
                receipt: None,
                external,
            };
            let verdict = diagnose::evaluate(&input).verdict;
            // The receipt, which is not read here, may say more.
            if verdict != Verdict::MachineEndUnknown {
                context.settled_verdicts.insert_settled(&row.id, verdict, end.at_ms);
            }
            verdict
        }
    };
    says_more(verdict, end.reason.kind.code()).then_some(verdict)
}

/// Whether the verdict says more than the reason for which the session ended.
fn says_more(verdict: Verdict, reason: &str) -> bool {
    let is_vague = matches!(
        verdict,
        Verdict::InternalError
            | Verdict::Unknown
            | Verdict::MachineEndUnknown
            | Verdict::MachineStopped
            | Verdict::ServerRestarted
            | Verdict::WaitingForUser
            | Verdict::IdleExpired
            | Verdict::DeadlineExpired
    );
    !is_vague && verdict.code() != reason
}

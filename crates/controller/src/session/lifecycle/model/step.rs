//! The steps of the model.

/// A step of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::session::lifecycle) enum Step {
    // The server.
    StartServer,
    Crash,
    StopServer,
    ServerEnds,
    Resume,
    StopUnowned(usize),
    NotifyEnd,
    // The supervisor.
    ExecuteCommand,
    ReceivePending,
    ReceiveDelivery,
    ReceiveEnd,
    ReceiveMachine,
    ReceiveRestart,
    ReceiveDeadline { hold_expired: bool },
    ReceiveCleanupTimeout,
    ReceiveWatcherClosed,
    AdvanceJob,
    ClaimFails,
    ReceiveJobResult,
    // The machine.
    ProcessStarted(usize),
    BecomesReady(usize),
    LosesChannel(usize),
    Exits(usize),
    MakesForbiddenSystemCall(usize),
    StopsOnRequest(usize),
    IgnoresStops(usize),
    ReportsExit(usize),
    CleansUpUnobserved(usize),
    ReportsRemoval(usize),
    // The agent and its delivery.
    WritesCredential(usize),
    AnnouncesDelivery(usize),
    SendsDelivery(usize),
    StoresDelivery(usize),
    DatabaseFails(usize),
    AnswersDelivery(usize),
    // Callers.
    RequestRestart,
    Cancels,
}

//! The viewer of a WebSocket, for the audit trail: its connection goes on after the request that opened it.

use super::{
    observe_input::{InputKind, ObservedInput},
    viewer_sockets::Socket,
};
use crate::app::App;
use anteroom_audit::{Action, Entry, OK};
use anteroom_controller::audit::RequestScope;
use anteroom_tunnel::TunnelReport;

/// Who opened a WebSocket, from where, for which session. `None` only outside of a request.
#[derive(Clone)]
pub(super) struct ViewerScope(Option<RequestScope>);

impl ViewerScope {
    /// The scope of the current request.
    pub(super) fn current() -> Self {
        Self(RequestScope::current())
    }

    fn entry(&self, action: Action) -> Entry {
        match &self.0 {
            Some(scope) => scope.clone().entry(action, OK),
            None => Entry::new(action),
        }
    }

    /// Records that the viewer is connected to the machine.
    pub(super) async fn record_open(&self, app: &App, socket: Socket, view_only: bool) {
        let action = match socket {
            Socket::Desktop => Action::DesktopOpen,
            Socket::Terminal => Action::TerminalOpen,
        };
        app.audit.record(self.entry(action).with_detail("view_only", view_only)).await;
    }

    /// Records the end of the connection, if it reached the machine.
    pub(super) async fn record_close(&self, app: &App, socket: Socket, report: &TunnelReport) {
        if !report.was_connected {
            return;
        }
        let action = match socket {
            Socket::Desktop => Action::DesktopClose,
            Socket::Terminal => Action::TerminalClose,
        };
        let entry = self
            .entry(action)
            .with_detail("bytes_from_viewer", report.bytes_up)
            .with_detail("bytes_to_viewer", report.bytes_down)
            .with_detail("duration_ms", report.duration_ms);
        app.audit.record(entry).await;
    }

    /// Records the first input of the connection.
    pub(super) fn observe_input<S>(
        &self,
        app: &App,
        stream: S,
        kind: InputKind,
    ) -> ObservedInput<S, impl FnOnce() + Send + Unpin + use<S>> {
        let via = match &kind {
            InputKind::EveryByte => "terminal",
            InputKind::Rfb(_) => "desktop",
        };
        let entry = self.entry(Action::InputType).with_detail("via", via);
        let app = app.clone();
        ObservedInput::new(stream, kind, move || {
            let tasks = app.tasks.clone();
            tasks.spawn(async move { app.audit.record(entry).await });
        })
    }
}

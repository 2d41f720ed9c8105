//! Who was turned away, on the timeline: each cause once in a while, and how often it came since.
//!
//! A page that knocks again and again, or a caller that means harm, must not fill a timeline: the first refusal for a cause
//! is noted at once, those that follow within the time are counted, and their count is noted when the time is over.

pub mod limiter;

pub use limiter::{RejectedRequest, RejectionLimiter};

use super::timeline;
use crate::{api_error::ApiError, app::App};
use anteroom_wire::SessionId;
use std::time::Duration;

/// Notes that somebody who may know of the session was turned away. Never waits.
pub fn record_rejection(app: &App, session: &SessionId, what: RejectedRequest, refusal: &ApiError) {
    let key = (session.clone(), what, refusal.problem);
    if !app.rejections.is_first(&key) {
        return;
    }
    let (kind, sentence, data) = (what.kind(), what.sentence(refusal.problem), what.data(refusal));
    timeline::append_in_background(app, session, kind, sentence.clone(), data.clone());
    let (app, every_ms) = (app.clone(), app.config.sessions.rejection_log_interval_ms);
    app.clone().tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(every_ms)) => {}
            () = app.stop.cancelled() => {}
        }
        let more = app.rejections.close(&key);
        if more > 0 {
            let mut data = data;
            data["count"] = more.into();
            timeline::append_in_background(&app, &key.0, kind, format!("{more} time(s) more: {sentence}"), data);
        }
    });
}

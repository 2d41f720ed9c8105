//! Records rejected requests on the timeline, with a limited rate: the first rejection of a kind at once, those that follow
//! within [`rejection_log_interval_ms`](crate::limits::SessionLimits::rejection_log_interval_ms) as one count. A page that
//! reconnects in a loop, or an attacker, cannot fill a timeline.

pub mod aggregator;

pub use aggregator::{RejectedRequest, RejectionAggregator};

use super::timeline::{TimelineWriter, new_entry};
use crate::api_error::ApiError;
use anteroom_wire::SessionId;

/// Records that a request about the session was rejected. Never waits. Only for callers that may know that the session exists.
pub fn record_rejection(timeline: &TimelineWriter, session: &SessionId, request: RejectedRequest, error: &ApiError) {
    let key = (session.clone(), request, error.problem);
    if !timeline.rejections.count_rejection(&key) {
        return;
    }
    let (kind, sentence, data) = (request.kind(), request.sentence(error.problem), request.data(error));
    timeline.append_in_background(session, new_entry(kind, sentence.as_str()).with_data(data.clone()));
    let timeline = timeline.clone();
    timeline.tasks.clone().spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(timeline.rejection_interval) => {}
            () = timeline.stop.cancelled() => {}
        }
        let repeated = timeline.rejections.end_interval(&key);
        if repeated > 0 {
            let mut data = data;
            data["count"] = repeated.into();
            let sentence = format!("{repeated} time(s) more: {sentence}");
            timeline.append_in_background(&key.0, new_entry(kind, sentence).with_data(data));
        }
    });
}

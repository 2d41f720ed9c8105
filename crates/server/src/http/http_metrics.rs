//! How long requests take, for `/metrics`.

use super::routes::FoundRoute;
use axum::http::{Method, StatusCode};
use prometheus_client::{
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::time::Duration;

/// Upper bounds of the buckets, seconds.
const BUCKETS_S: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

type Labels = Vec<(&'static str, String)>;

/// The durations of requests until the head of their answer, by method, route and class of status.
#[derive(Debug, Clone)]
pub struct HttpMetrics(Family<Labels, Histogram, fn() -> Histogram>);

impl Default for HttpMetrics {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BUCKETS_S)))
    }
}

impl HttpMetrics {
    /// Counts a request. Paths without a route are counted together, so that strangers cannot add labels.
    pub(super) fn observe(&self, method: &Method, route: Option<&str>, status: StatusCode, took: Duration) {
        let known = route.filter(|route| matches!(FoundRoute::of(method, Some(route)), FoundRoute::Listed(_)));
        let labels = vec![
            ("method", if known.is_some() { method.to_string() } else { "other".to_owned() }),
            ("route", known.unwrap_or("other").to_owned()),
            ("status", format!("{}xx", status.as_u16() / 100)),
        ];
        self.0.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Adds them to the metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request to the head of its answer",
            Unit::Seconds,
            self.0.clone(),
        );
    }
}

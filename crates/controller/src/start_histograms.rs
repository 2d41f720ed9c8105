//! Histograms of the durations of starts since this server started, for Prometheus.

use anteroom_machine::StartTimings;
use anteroom_wire::api::StartStage;
use prometheus_client::metrics::{family::Family, histogram::Histogram};

/// The bounds of the buckets, seconds: a clone takes some tenths, a boot or a queue minutes.
const BOUNDS_S: [f64; 14] = [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Labels of a metric.
pub type Labels = Vec<(&'static str, String)>;
/// A histogram for each stage.
pub type StageHistograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Histograms of starts by stage.
#[derive(Debug, Clone)]
pub struct StartHistograms(StageHistograms);

impl Default for StartHistograms {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BOUNDS_S)))
    }
}

impl StartHistograms {
    /// Adds the start of a machine that a session has claimed. `total_ms`: since the session was accepted, for its first machine.
    pub fn observe_start(&self, timings: &StartTimings, total_ms: Option<u64>) {
        let StartTimings { spawned_ms, channel_ms, agent_info_ms, ready_ms } = *timings;
        for (stage, duration_ms) in [
            (StartStage::Process, spawned_ms),
            (StartStage::Channel, channel_ms.saturating_sub(spawned_ms)),
            (StartStage::Agent, agent_info_ms.saturating_sub(channel_ms)),
            (StartStage::Desktop, ready_ms.saturating_sub(agent_info_ms)),
        ] {
            self.observe(stage, duration_ms);
        }
        if let Some(total_ms) = total_ms {
            self.observe(StartStage::Total, total_ms);
        }
    }

    fn observe(&self, stage: StartStage, duration_ms: u64) {
        let labels = vec![("stage", stage.as_str().to_owned())];
        self.0.get_or_create_owned(&labels).observe(std::time::Duration::from_millis(duration_ms).as_secs_f64());
    }

    /// The histograms, for a registry.
    pub fn by_stage(&self) -> StageHistograms {
        self.0.clone()
    }
}

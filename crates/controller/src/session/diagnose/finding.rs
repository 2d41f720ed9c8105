//! A verdict with what proves it.

use anteroom_store::TimelineRow;
use anteroom_wire::diagnosis::Verdict;

/// A verdict with its sentence and its evidence.
#[derive(Debug)]
pub(super) struct Finding<'a> {
    pub(super) verdict: Verdict,
    pub(super) sentence: String,
    pub(super) evidence: Vec<&'a TimelineRow>,
    /// What to do in this case; `None`: the verdict's remedy.
    pub(super) remedy: Option<&'static str>,
}

impl<'a> Finding<'a> {
    pub(super) fn new(
        verdict: Verdict,
        sentence: impl Into<String>,
        evidence: impl IntoIterator<Item = &'a TimelineRow>,
    ) -> Self {
        Self { verdict, sentence: sentence.into(), evidence: evidence.into_iter().collect(), remedy: None }
    }

    pub(super) fn with_remedy(self, remedy: &'static str) -> Self {
        Self { remedy: Some(remedy), ..self }
    }
}

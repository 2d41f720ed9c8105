//! Sources of machines that differ from a kind's source in one thing.

use anteroom_machine::{ProcessSpec, SpecError, SpecSource};
use anteroom_wire::MachineId;
use std::sync::Arc;

/// Changes each spec of another source.
pub(crate) struct Changed<F> {
    source: Arc<dyn SpecSource>,
    change: F,
}

/// A source whose specs are changed by `change`.
pub(crate) fn changed<F: Fn(&mut ProcessSpec) + Send + Sync + 'static>(
    source: &Arc<dyn SpecSource>,
    change: F,
) -> Arc<dyn SpecSource> {
    Arc::new(Changed { source: source.clone(), change })
}

/// A source whose machines run another program.
pub(crate) fn with_program(source: &Arc<dyn SpecSource>, program: &str, args: &[&str]) -> Arc<dyn SpecSource> {
    let (program, args) = (program.to_owned(), args.iter().map(ToString::to_string).collect::<Vec<_>>());
    changed(source, move |spec| {
        spec.program.clone_from(&program);
        spec.args.clone_from(&args);
    })
}

impl<F: Fn(&mut ProcessSpec) + Send + Sync + 'static> SpecSource for Changed<F> {
    fn image_hash(&self) -> &str {
        self.source.image_hash()
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        let mut spec = self.source.build_spec(machine)?;
        (self.change)(&mut spec);
        Ok(spec)
    }
}

/// A source that expects another image than its machines run.
pub(crate) struct OtherImage(pub(crate) Arc<dyn SpecSource>);

impl OtherImage {
    pub(crate) const HASH: &str = "the hash of another image";
}

impl SpecSource for OtherImage {
    fn image_hash(&self) -> &str {
        Self::HASH
    }

    fn build_spec(&self, machine: &MachineId) -> Result<ProcessSpec, SpecError> {
        self.0.build_spec(machine)
    }
}

//! Files of which the content was verified before a machine starts.

use super::test_host::{TestHost, new_id, until_removed};
use anteroom_machine::{
    ChannelTransport, Confinement, ExitReason, FdSource, FileStamp, InheritedFd, Monitor, ProcessSpec, SpecError,
    SpecSource, State,
};
use anteroom_wire::MachineId;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
};

/// A process that reads a file and exits.
struct Reader {
    path: PathBuf,
    stamp: FileStamp,
}

impl SpecSource for Reader {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        Ok(ProcessSpec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "read line <&5 && exit 9".into()],
            env: BTreeMap::new(),
            fds: vec![InheritedFd { number: 5, source: FdSource::Read { path: self.path.clone() } }],
            monitor: Monitor::None,
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Unconfined,
            verified: BTreeMap::from([(self.path.clone(), self.stamp)]),
        })
    }
}

#[tokio::test]
async fn file_that_was_changed_after_its_verification_is_not_given_to_the_process() {
    let host = TestHost::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    fs::write(&path, "content\n").unwrap();
    let stamp = FileStamp::of(&File::open(&path).unwrap()).unwrap();
    let server = host.open(Arc::new(Reader { path: path.clone(), stamp })).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!("not removed") };
    assert_eq!(reason, ExitReason::Exited { code: 9 }, "the unchanged file is read");
    // A file of the same size in its place.
    fs::write(dir.path().join("new"), "CONTENT\n").unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason: ExitReason::NeverStarted { error }, .. } = until_removed(&mut state).await else {
        panic!("it was started")
    };
    assert!(error.contains(path.to_str().unwrap()) && error.contains("changed after"), "{error}");
    server.end().await;
}

//! Confined processes that are not a VMM.

use super::test_host::{TestHost, new_id, until_removed};
use anteroom_machine::{
    ChannelTransport, Confinement, ExitReason, FileAccess, Monitor, NamedFile, ProcessSpec, ResourceLimits, SpecError,
    SpecSource, State,
};
use anteroom_wire::MachineId;
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

/// A confined shell, and the file that it opens as `/machine/file`.
struct ConfinedShell {
    line: &'static str,
    file: PathBuf,
}

impl SpecSource for ConfinedShell {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let file = NamedFile { name: "/machine/file".into(), path: self.file.clone(), access: FileAccess::ReadOnly };
        let limits = ResourceLimits {
            address_space_bytes_max: 1 << 30,
            memory_bytes_max: 1 << 28,
            file_bytes_max: 0,
            threads_max: 2,
            open_files_max: 32,
            cpus_max: 1,
        };
        Ok(ProcessSpec {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), self.line.into()],
            env: BTreeMap::new(),
            fds: Vec::new(),
            monitor: Monitor::None,
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Confined { files: vec![file], listeners: Vec::new(), limits },
            verified: BTreeMap::new(),
        })
    }
}

#[tokio::test]
async fn named_file_is_read_from_its_beginning_each_time_that_it_is_opened() {
    let host = TestHost::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "first\nsecond\n").unwrap();
    let line = "exec 3</machine/file && read -r a <&3 && read -r b </machine/file && read -r c <&3 && \
                test $a$b$c = firstfirstsecond && exit 7";
    let server = host.open(Arc::new(ConfinedShell { line, file })).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason, receipt } = until_removed(&mut state).await else { panic!("not removed") };
    assert_eq!(reason, ExitReason::Exited { code: 7 }, "{receipt:?}");
    server.end().await;
}

use crate::test_host::{PlainProcess, TestHost, new_id, processes, until_removed, until_removed_with_receipt};
use anteroom_machine::{
    ChannelTransport, Confinement, ExitCause, ExitReason, FdSource, InheritedFd, MachinesSettings, Monitor,
    ProcessSpec, QmpStart, SpecError, SpecSource, State, StopReason, StopRequestOutcome,
};
use anteroom_wire::{MachineId, agent::Stage};
use std::{collections::BTreeMap, sync::Arc};

#[tokio::test]
async fn exit_code_and_last_output_are_in_the_receipt() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::shell("echo last line; exit 7")).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(reason, ExitReason::Exited { code: 7 });
    assert_eq!(receipt.output_tail, "last line\n");
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert_eq!(receipt.checks.pids.len(), 1);
    assert!(receipt.checks.sockets.contains(&"agent.sock".to_owned()));
    assert!(receipt.checks.paths.contains(&host.run_dir(&id)));
    assert!(!host.run_dir(&id).exists());
    assert_eq!(server.machines.read_receipt(&id).unwrap().unwrap(), receipt);
    server.end().await;
}

#[tokio::test]
async fn killed_process_has_the_signal_in_its_exit_reason() {
    let host = TestHost::new();
    let server = host.open(PlainProcess::shell("kill -SEGV $$")).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!() };
    assert_eq!(reason, ExitReason::Killed { signal: 11 });
    server.end().await;
}

/// A shell script that acts like QEMU over QMP (QMP reference: `STOP`, `query-status`) when QEMU has paused the guest.
struct PausedVmm {
    /// QEMU's run state.
    status: &'static str,
    /// What the script does afterwards.
    then: &'static str,
}

impl SpecSource for PausedVmm {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let line = format!(
            r#"emit() {{ echo "$1" >&3; }}
            emit '{{"QMP": {{}}}}'; read capabilities <&3; emit '{{"return": {{}}}}'
            read run <&3; emit '{{"return": {{}}}}'
            emit '{{"event": "STOP"}}'; read query <&3; echo "$query"
            emit '{{"return": {{"running": false, "singlestep": false, "status": "{}"}}}}'
            {}"#,
            self.status, self.then
        );
        let (program, args) = ("/bin/sh".to_owned(), ["-c".to_owned(), line].to_vec());
        let env = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
        let fds = [InheritedFd { number: 3, source: FdSource::Qmp }].to_vec();
        Ok(ProcessSpec {
            program,
            args,
            env,
            fds,
            monitor: Monitor::Qmp { start: QmpStart::Boot },
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Unconfined,
            verified: BTreeMap::new(),
        })
    }
}

#[tokio::test]
async fn unrecoverable_vmm_error_ends_the_machine_with_its_status() {
    for status in ["internal-error", "io-error"] {
        let host = TestHost::new();
        let server = host.open(Arc::new(PausedVmm { status, then: "read end <&3" })).await;
        let mut state = server.machines.start(new_id()).unwrap();
        let (reason, receipt) = until_removed_with_receipt(&mut state).await;
        assert_eq!(reason, ExitReason::VmmError { status: status.to_owned() });
        assert!(receipt.output_tail.contains("query-status"), "{}", receipt.output_tail);
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        server.end().await;
    }
}

#[tokio::test]
async fn paused_guest_is_not_stopped() {
    let host = TestHost::new();
    let server = host.open(Arc::new(PausedVmm { status: "paused", then: "exit 5" })).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason, .. } = until_removed(&mut state).await else { panic!("not removed") };
    assert_eq!(reason, ExitReason::Exited { code: 5 });
    server.end().await;
}

/// A missing program with many inherited file descriptors.
struct WithFiles;

impl SpecSource for WithFiles {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn build_spec(&self, _: &MachineId) -> Result<ProcessSpec, SpecError> {
        let file = |number| InheritedFd { number, source: FdSource::Listen { name: format!("socket-{number}") } };
        let (program, args, env) = ("/no/such/program".to_owned(), Vec::new(), BTreeMap::new());
        Ok(ProcessSpec {
            program,
            args,
            env,
            fds: (3..=63).map(file).collect(),
            monitor: Monitor::None,
            transport: ChannelTransport::UnixSockets,
            confinement: Confinement::Unconfined,
            verified: BTreeMap::new(),
        })
    }
}

#[tokio::test]
async fn missing_program_is_reported_with_any_number_of_inherited_files() {
    let host = TestHost::new();
    let server = host.open(Arc::new(WithFiles)).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason: ExitReason::NeverStarted { error }, .. } = until_removed(&mut state).await else {
        panic!()
    };
    assert!(error.contains("/no/such/program: No such file"), "{error}");
    server.end().await;
}

#[tokio::test]
async fn missing_keeper_program_is_in_the_exit_reason() {
    let host = TestHost::new();
    let settings = MachinesSettings { keeper_program: "/no/such/keeper".into(), ..host.settings() };
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { reason: ExitReason::NeverStarted { error }, .. } = until_removed(&mut state).await else {
        panic!()
    };
    assert!(error.contains("/no/such/keeper"), "{error}");
    server.end().await;
}

#[tokio::test]
async fn keeper_that_cannot_start_reports_the_error() {
    use std::os::unix::fs::PermissionsExt;
    let host = TestHost::new();
    let mut settings = host.settings();
    // A directory exists at the path of the keeper's control socket.
    let program = settings.run_dir.parent().unwrap().join("keeper-without-a-socket");
    let keeper = settings.keeper_program.display();
    std::fs::write(&program, format!("#!/bin/sh\nmkdir \"$2/control.sock\"\nexec '{keeper}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    settings.keeper_program = program;
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    let State::Removed { reason, receipt } = until_removed(&mut state).await else { panic!() };
    let ExitReason::NeverStarted { error } = &reason else { panic!("{reason:?}") };
    assert!(error.contains("keeper") && error.contains("Address already in use"), "{error}");
    assert_eq!(receipt.unwrap().exit_reason(), reason);
    server.end().await;
}

#[tokio::test]
async fn stop_kills_every_descendant_and_its_reason_overrides_the_exit_status() {
    let host = TestHost::new();
    // A descendant in another session whose parent has exited: only the keeper, as subreaper, finds it.
    let server = host.open(PlainProcess::shell("(setsid sleep 1000 &) ; sleep 1000")).await;
    let (id, mut state) = server.start_running().await;
    let (keeper, process) = processes(&host.run_dir(&id));
    // By name: the shell's subshell, which has exited, is its child for a moment too.
    let has_sleep = |pid: u32| {
        let pids = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let mut names =
            pids.split_whitespace().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default());
        names.any(|name| name.trim() == "sleep")
    };
    while !has_sleep(keeper.pid) || !has_sleep(process.pid) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), StopRequestOutcome::Enqueued);
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(reason, ExitReason::Stopped { reason: StopReason::Cancelled });
    assert_eq!(receipt.cause, ExitCause::Stopped { reason: "cancelled".into() });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(receipt.checks.pids.len() >= 3, "{:?}", receipt.checks.pids);
    assert!(receipt.checks.pids.contains(&process.pid));
    assert!(!process.is_alive());
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), StopRequestOutcome::UnknownMachine);
    server.end().await;
}

#[tokio::test]
async fn ready_timeout_has_stage_error_and_attempts() {
    let host = TestHost::new();
    let settings = MachinesSettings { ready_ms_max: 300, ..host.settings() };
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let mut state = server.machines.start(new_id()).unwrap();
    let (reason, receipt) = until_removed_with_receipt(&mut state).await;
    assert_eq!(receipt.exit_reason(), reason, "the receipt has the same reason");
    let ExitReason::ReadyTimeout { stage, last_error, attempts, elapsed_ms } = reason else { panic!("{reason:?}") };
    assert_eq!(stage, Stage::Channel);
    assert!(last_error.unwrap().contains("No such file"));
    assert!(attempts > 1 && elapsed_ms >= 300, "{attempts} {elapsed_ms}");
    server.end().await;
}

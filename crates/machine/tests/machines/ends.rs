use crate::test_host::{Plain, SOON, TestHost, new_id, processes, until, until_gone};
use anteroom_machine::{
    Descriptor, ExitCause, ExitReason, InheritedFd, Qmp, RequestOutcome, Spec, SpecError, SpecSource, State, StopReason,
};
use anteroom_wire::{MachineId, agent::Stage};
use std::{collections::BTreeMap, sync::Arc};

fn runs(state: &State) -> bool {
    matches!(state, State::Waiting { .. })
}

#[tokio::test]
async fn a_process_that_ends_by_itself_is_told_with_its_exit_code_and_last_words() {
    let ground = TestHost::new();
    let server = ground.open(Plain::line("echo last words; exit 7")).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!("no receipt") };
    assert_eq!(why, ExitReason::Exited { code: 7 });
    assert_eq!(receipt.output_tail, "last words\n");
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert_eq!(receipt.checks.pids.len(), 1);
    assert!(receipt.checks.sockets.contains(&"agent.sock".to_owned()));
    assert!(receipt.checks.paths.contains(&ground.run_dir(&id)));
    assert!(!ground.run_dir(&id).exists());
    assert_eq!(server.machines.receipt(&id).unwrap().unwrap(), *receipt);
    server.end().await;
}

#[tokio::test]
async fn a_killed_process_is_told_with_its_signal() {
    let ground = TestHost::new();
    let server = ground.open(Plain::line("kill -SEGV $$")).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Killed { signal: 11 });
    server.end().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_by_name() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/no/such/program", &[])).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why: ExitReason::NeverStarted { error }, .. } = until_gone(&mut state).await else { panic!() };
    assert!(error.contains("/no/such/program"), "{error}");
    server.end().await;
}

/// A process that says what QEMU says (its QMP reference: `STOP`, `query-status`) when it has stopped the guest: in which run
/// state, and what the process does then.
struct Stops(&'static str, &'static str);

impl SpecSource for Stops {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn spec(&self, _: &MachineId) -> Result<Spec, SpecError> {
        let line = format!(
            r#"say() {{ echo "$1" >&3; }}
            say '{{"QMP": {{}}}}'; read capabilities <&3; say '{{"return": {{}}}}'
            say '{{"event": "STOP"}}'; read query <&3; echo "$query"
            say '{{"return": {{"running": false, "singlestep": false, "status": "{}"}}}}'
            {}"#,
            self.0, self.1
        );
        let (program, args) = ("/bin/sh".to_owned(), ["-c".to_owned(), line].to_vec());
        let env = BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]);
        let fds = [InheritedFd { number: 3, file: Descriptor::Qmp }].to_vec();
        Ok(Spec { program, args, env, fds, qmp: Qmp::Listen })
    }
}

#[tokio::test]
async fn a_guest_that_qemu_cannot_run_on_is_told_at_once_with_qemus_word_for_it() {
    for status in ["internal-error", "io-error"] {
        let ground = TestHost::new();
        let server = ground.open(Arc::new(Stops(status, "read end <&3"))).await;
        let mut state = server.machines.start(new_id()).unwrap();
        let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!("no receipt") };
        assert_eq!(why, ExitReason::VmmError { status: status.to_owned() });
        assert!(receipt.output_tail.contains("query-status"), "{}", receipt.output_tail);
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        server.end().await;
    }
}

#[tokio::test]
async fn a_guest_that_is_only_paused_is_not_ended_for_it() {
    let ground = TestHost::new();
    let server = ground.open(Arc::new(Stops("paused", "exit 5"))).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!("not gone") };
    assert_eq!(why, ExitReason::Exited { code: 5 });
    server.end().await;
}

/// A program that is not there and would be given many open files.
struct WithFiles;

impl SpecSource for WithFiles {
    fn image_hash(&self) -> &str {
        "none"
    }

    fn spec(&self, _: &MachineId) -> Result<Spec, SpecError> {
        let file = |number| InheritedFd { number, file: Descriptor::Listen { name: format!("socket-{number}") } };
        let (program, args, env) = ("/no/such/program".to_owned(), Vec::new(), BTreeMap::new());
        Ok(Spec { program, args, env, fds: (3..=63).map(file).collect(), qmp: Qmp::Unused })
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_whichever_files_it_would_have_had() {
    let ground = TestHost::new();
    let server = ground.open(Arc::new(WithFiles)).await;
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why: ExitReason::NeverStarted { error }, .. } = until_gone(&mut state).await else { panic!() };
    assert!(error.contains("/no/such/program: No such file"), "{error}");
    server.end().await;
}

#[tokio::test]
async fn a_keeper_that_is_not_there_is_told_by_name() {
    let ground = TestHost::new();
    let mut settings = ground.settings();
    settings.keeper_program = "/no/such/keeper".into();
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why: ExitReason::NeverStarted { error }, .. } = until_gone(&mut state).await else { panic!() };
    assert!(error.contains("/no/such/keeper"), "{error}");
    server.end().await;
}

#[tokio::test]
async fn a_keeper_that_cannot_begin_says_why_and_is_not_called_killed() {
    use std::os::unix::fs::PermissionsExt;
    let ground = TestHost::new();
    let mut settings = ground.settings();
    // Something stands where the keeper's own socket has to be.
    let program = settings.run_dir.parent().unwrap().join("keeper-without-a-socket");
    let keeper = settings.keeper_program.display();
    std::fs::write(&program, format!("#!/bin/sh\nmkdir \"$2/control.sock\"\nexec '{keeper}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    settings.keeper_program = program;
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    let State::Removed { why, receipt } = until_gone(&mut state).await else { panic!() };
    let ExitReason::NeverStarted { error } = &why else { panic!("{why:?}") };
    assert!(error.contains("keeper") && error.contains("Address already in use"), "{error}");
    assert_eq!(receipt.unwrap().reason(), why);
    server.end().await;
}

#[tokio::test]
async fn a_stop_ends_every_descendant_and_its_reason_stands_over_the_exit_status() {
    let ground = TestHost::new();
    // A descendant in a session of its own, whose parent is dead: only the keeper can find it.
    let server = ground.open(Plain::line("(setsid sleep 1000 &) ; sleep 1000")).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", keeper.pid)).unwrap_or_default();
    while children().split_whitespace().count() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), RequestOutcome::Enqueued);
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Cancelled });
    assert_eq!(receipt.cause, ExitCause::Stopped { why: "cancelled".into() });
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(receipt.checks.pids.len() >= 3, "{:?}", receipt.checks.pids);
    assert!(receipt.checks.pids.contains(&process.pid));
    assert!(!process.is_alive());
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), RequestOutcome::UnknownMachine);
    server.end().await;
}

#[tokio::test]
async fn a_machine_can_be_stopped_before_it_runs() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    assert_eq!(server.machines.stop(&id, StopReason::Cancelled), RequestOutcome::Enqueued);
    let State::Removed { why, .. } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::Stopped { why: StopReason::Cancelled });
    server.end().await;
}

#[tokio::test]
async fn the_process_dies_with_its_keeper_and_the_controller_clears_away() {
    let ground = TestHost::new();
    let server = ground.open(Plain::new("/bin/sleep", &["1000"])).await;
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    keeper.kill();
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(why, ExitReason::KeeperLost);
    assert!(!process.is_alive() && !keeper.is_alive());
    assert_eq!(receipt.checks.pids, [process.pid]);
    assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
    assert!(!ground.run_dir(&id).exists());
    server.end().await;
}

#[tokio::test]
async fn the_keeper_holds_the_deadline_although_no_controller_lives() {
    let ground = TestHost::new();
    let mut settings = ground.settings();
    settings.lifetime_s_max = 1;
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let id = new_id();
    let mut state = server.machines.start(id.clone()).unwrap();
    until(&mut state, runs).await;
    let (keeper, process) = processes(&ground.run_dir(&id));
    server.end().await;
    let gone = async {
        while keeper.is_alive() || process.is_alive() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    assert!(!ground.run_dir(&id).exists());
    // The next server finds the receipt of what it did not see.
    let server = ground.open(Plain::new("/bin/true", &[])).await;
    assert_eq!(server.machines.receipt(&id).unwrap().unwrap().cause, ExitCause::Deadline);
    assert_eq!(server.machines.count(), 0);
    server.end().await;
}

#[tokio::test]
async fn a_machine_that_is_never_ready_is_ended_with_stage_error_and_attempts() {
    let ground = TestHost::new();
    let mut settings = ground.settings();
    settings.ready_ms_max = 300;
    let server = ground.open_with(settings, Plain::new("/bin/sleep", &["1000"])).await.unwrap();
    let mut state = server.machines.start(new_id()).unwrap();
    let State::Removed { why, receipt: Some(receipt) } = until_gone(&mut state).await else { panic!() };
    assert_eq!(receipt.reason(), why, "the receipt says the same");
    let ExitReason::ReadyTimeout { stage, last_error, attempts, elapsed_ms } = why else { panic!("{why:?}") };
    assert_eq!(stage, Stage::Channel);
    assert!(last_error.unwrap().contains("No such file"));
    assert!(attempts > 1 && elapsed_ms >= 300, "{attempts} {elapsed_ms}");
    server.end().await;
}

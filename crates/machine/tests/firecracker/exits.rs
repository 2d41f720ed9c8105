//! Ends of running machines, each with its cause.

use super::host::Host;
use anteroom_machine::{CONSOLE_BYTES_MAX, ExitReason, MachinesSettings, Monitor};
use std::fs;

#[tokio::test]
async fn each_end_of_a_guest_has_its_cause() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let internal_error = ExitReason::VmmError { status: "internal-error".into() };
    for (command, reason) in [(b't', ExitReason::GuestPanic), (b'r', ExitReason::GuestPanic), (b'i', internal_error)] {
        let mut machine = server.start();
        machine.ready().await;
        machine.command(command);
        assert_eq!(machine.removed().await.0, reason, "{}", char::from(command));
    }
    server.end().await;
}

#[tokio::test]
async fn killed_firecracker_is_reported_with_its_signal() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = server.start();
    machine.ready().await;
    machine.signal(rustix::process::Signal::KILL);
    assert_eq!(machine.removed().await.0, ExitReason::Killed { signal: 9 });
    server.end().await;
}

#[tokio::test]
async fn keeper_ends_a_machine_at_its_maximum_lifetime() {
    let Some(host) = Host::new().await else { return };
    let settings = MachinesSettings { lifetime_s_max: 2, ..host.settings() };
    let server = super::host::Server::open(settings, host.template.clone()).await;
    let mut machine = server.start();
    machine.ready().await;
    assert_eq!(machine.removed().await.0, ExitReason::Deadline);
    server.end().await;
}

#[tokio::test]
async fn firecracker_that_does_not_answer_is_killed_as_unresponsive() {
    let Some(host) = Host::new().await else { return };
    let server = host
        .open_changed(|spec| {
            let Monitor::Firecracker { answer_ms_max, .. } = &mut spec.monitor else { panic!("not Firecracker") };
            *answer_ms_max = 1_000;
        })
        .await;
    let mut machine = server.start();
    machine.ready().await;
    machine.signal(rustix::process::Signal::STOP);
    assert_eq!(machine.removed().await.0, ExitReason::VmmError { status: "unresponsive".into() });
    server.end().await;
}

#[tokio::test]
async fn flood_on_the_serial_port_is_bounded_and_the_guest_continues() {
    let Some(host) = Host::new().await else { return };
    let server = host.open().await;
    let mut machine = server.start();
    machine.ready().await;
    for _ in 0..4 {
        assert!(machine.command(b'f'));
    }
    assert!(machine.command(b'p'));
    let receipt = server.stop(&mut machine).await;
    assert!(receipt.console_tail.len() <= CONSOLE_BYTES_MAX, "{}", receipt.console_tail.len());
    assert!(receipt.console_tail.contains("pong"));
    server.end().await;
}

#[tokio::test]
async fn memory_file_that_is_truncated_under_a_guest_ends_its_machine() {
    let Some(host) = Host::new().await else { return };
    let memory = host.template.dir().join("memory");
    let server = host.open().await;
    let mut machine = server.start();
    machine.ready().await;
    fs::File::options().write(true).open(&memory).unwrap().set_len(4096).unwrap();
    let reason = machine.removed().await.0;
    // The guest's or Firecracker's access fails first; the guest may also reset.
    let internal_error = ExitReason::VmmError { status: "internal-error".into() };
    let expected = [ExitReason::Killed { signal: 7 }, internal_error, ExitReason::GuestPanic];
    assert!(expected.contains(&reason), "{reason:?}");
    server.end().await;
}

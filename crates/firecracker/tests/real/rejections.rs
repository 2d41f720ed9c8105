//! What Firecracker rejects, and API sockets that are slow or end.

use crate::process::{Process, Programs, Template, WAIT_MAX, new_dir};
use anteroom_firecracker::{Client, Error, body::*};
use std::{fs, time::Duration};

/// Status and message of a rejection.
fn fault<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Fault { status, fault_message, .. }) => format!("{status} {fault_message}"),
        other => panic!("{other:?}"),
    }
}

fn boot_source(kernel_image_path: &str) -> BootSource {
    BootSource { kernel_image_path: kernel_image_path.to_owned(), boot_args: String::new(), initrd_path: None }
}

fn assert_rejected<T: std::fmt::Debug>(result: Result<T, Error>, cause: &str) {
    let rejection = fault(result);
    assert!(rejection.starts_with("400 ") && rejection.contains(cause), "{rejection}");
}

#[test]
fn each_rejection_carries_the_cause() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::start(&programs, None);
    fs::write(process.dir.path().join("text"), "no ELF file").unwrap();
    fs::write(process.dir.path().join("vsock.sock"), "").unwrap();
    let client = &mut process.client;
    let hardware = |vcpu_count, mem_size_mib| MachineConfiguration { vcpu_count, mem_size_mib };
    assert_rejected(client.start_instance(), "Cannot start microvm without kernel configuration");
    assert_rejected(client.pause_vm(), "not supported before starting the microVM");
    for vcpu_count in [0, 33] {
        let rejected = client.put_machine_configuration(&hardware(vcpu_count, 64));
        assert_rejected(rejected, "number of vCPUs must be greater than 0");
    }
    assert_rejected(client.put_machine_configuration(&hardware(1, 0)), "memory size (MiB) is either 0");
    let no_file = "No such file or directory";
    assert_rejected(client.put_guest_boot_source(&boot_source("no/kernel")), no_file);
    let drive = Drive {
        drive_id: "rootfs".into(),
        path_on_host: "no/rootfs".into(),
        is_root_device: false,
        is_read_only: true,
    };
    assert_rejected(client.put_guest_drive_by_id(&drive), no_file);
    let vsock = Vsock { guest_cid: 3, uds_path: "vsock.sock".into() };
    assert_rejected(client.put_guest_vsock(&vsock), "Address in use");
    client.put_guest_boot_source(&boot_source("text")).unwrap();
    assert_rejected(client.start_instance(), "failed to load ELF kernel image");
}

#[test]
fn configuration_after_the_start_and_load_after_a_configuration_are_rejected() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let mut running = Process::boot(&programs);
    let config = MachineConfiguration { vcpu_count: 1, mem_size_mib: 64 };
    assert_rejected(running.client.put_machine_configuration(&config), "not supported after starting the microVM");
    let unpaused = SnapshotCreateParams {
        snapshot_path: template.path("new-state"),
        mem_file_path: template.path("new-memory"),
        snapshot_type: SnapshotType::Full,
    };
    assert_rejected(running.client.create_snapshot(&unpaused), "save/restore unavailable while running");

    let mut configured = Process::configure(&programs);
    let loaded = configured.client.load_snapshot(&template.load_params());
    assert_rejected(loaded, "not allowed after configuring boot-specific resources");
}

/// A named pipe as memory file: Firecracker waits for a reader.
#[test]
fn slow_answer_times_out_and_the_end_of_the_process_closes_the_socket() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::boot(&programs);
    process.client.pause_vm().unwrap();
    let dir = new_dir();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let socket = process.dir.path().join("api.sock");
    let mut client = Client::connect(&socket, Duration::from_millis(300)).unwrap();
    let parameters = SnapshotCreateParams {
        snapshot_path: dir.path().join("state").to_str().unwrap().to_owned(),
        mem_file_path: pipe.to_str().unwrap().to_owned(),
        snapshot_type: SnapshotType::Full,
    };
    let slow = client.create_snapshot(&parameters);
    assert!(matches!(slow, Err(Error::Timeout { timeout_ms: 300, .. })), "{slow:?}");
    process.child.kill().unwrap();
    process.wait_exit();
    let closed = client.describe_instance();
    assert!(matches!(closed, Err(Error::Closed { .. })), "{closed:?}");
}

#[test]
fn removed_api_socket_ends_only_new_connections() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::boot(&programs);
    let path = process.dir.path().join("api.sock");
    fs::remove_file(&path).unwrap();
    assert!(matches!(Client::connect(&path, WAIT_MAX), Err(Error::Connect { .. })));
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::Running);
    process.serial.command(b'p');
    process.serial.wait_line("pong");
}

#[test]
fn log_and_metrics_need_existing_files_before_1_14() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::start(&programs, None);
    let metrics = Metrics { metrics_path: "metrics".into() };
    let created = process.client.put_metrics(&metrics);
    if process.client.version().creates_log_files() {
        created.unwrap();
        return;
    }
    assert_rejected(created, "No such file or directory");
    let logger = Logger { log_path: "new-log".into(), level: LogLevel::Info };
    assert_rejected(process.client.put_logger(&logger), "No such file or directory");
    fs::write(process.dir.path().join("metrics"), "").unwrap();
    process.client.put_metrics(&metrics).unwrap();
}

#[test]
fn two_connections_see_the_same_guest() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::boot(&programs);
    let mut other = Client::connect(&process.dir.path().join("api.sock"), WAIT_MAX).unwrap();
    other.pause_vm().unwrap();
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::Paused);
}

//! Start, pause, save, load, clone and end.

use crate::process::{ECHO_PORT, Process, Programs, Template, WAIT_MAX};
use anteroom_firecracker::{Client, Connection, Error, Operation, Request, body::*};
use std::{
    fs,
    hash::{DefaultHasher, Hasher},
    io::{Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
};

fn digest(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(path).unwrap());
    hasher.finish()
}

fn tick(line: &str) -> u64 {
    line.strip_prefix("tick ").unwrap_or_else(|| panic!("{line:?}")).parse().unwrap()
}

fn assert_echoes(process: &Process) {
    let mut stream = process.connect_vsock(ECHO_PORT);
    stream.write_all(b"0123456789").unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"0123456789");
}

#[test]
fn guest_boots_pauses_and_resumes() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::configure(&programs);
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::NotStarted);
    process.client.start_instance().unwrap();
    process.serial.wait_line("guest started");
    process.serial.wait_line("tick 1");
    let info = process.client.describe_instance().unwrap();
    assert_eq!(info.state, InstanceState::Running);
    assert_eq!((info.id.as_str(), info.vmm_version), ("anonymous-instance", process.client.version().to_string()));
    assert_echoes(&process);
    process.client.pause_vm().unwrap();
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::Paused);
    process.client.resume_vm().unwrap();
    process.serial.command(b'p');
    process.serial.wait_line("pong");
}

#[test]
fn ten_guests_run_from_one_memory_file_which_stays_unchanged() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let before = digest(&template.path("memory"));
    let mut processes: Vec<Process> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..10).map(|_| scope.spawn(|| Process::clone(&programs, &template))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for process in &mut processes {
        // The rest of the line that the guest was printing when it was saved.
        process.serial.next_line().unwrap();
        assert!(tick(&process.serial.wait_line("tick")) > template.last_tick);
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.child.id())).unwrap();
        let mapped: Vec<&str> = maps.lines().filter(|line| line.ends_with(&template.path("memory"))).collect();
        assert!(!mapped.is_empty() && mapped.iter().all(|line| line.contains(" rw-p ")), "{mapped:?}");
        process.serial.command(b'd');
        process.serial.wait_line("written");
        assert_echoes(process);
    }
    drop(processes);
    assert_eq!(digest(&template.path("memory")), before);
}

#[test]
fn guest_that_is_loaded_paused_runs_when_it_is_resumed() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let mut process = Process::start(&programs, None);
    process.client.load_snapshot(&SnapshotLoadParams { resume_vm: false, ..template.load_params() }).unwrap();
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::Paused);
    process.client.resume_vm().unwrap();
    process.serial.wait_line("vsock reset");
    assert_echoes(&process);
}

#[test]
fn pipelined_requests_are_executed_in_order() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::start(&programs, None);
    let stream = UnixStream::connect(process.dir.path().join("api.sock")).unwrap();
    let mut connection: Connection = Client::new(stream, WAIT_MAX).unwrap().into_connection();
    let (kernel_image_path, boot_args) = (programs.kernel(), "console=ttyS0".to_owned());
    let requests = [
        Request::put_machine_configuration(&MachineConfiguration { vcpu_count: 1, mem_size_mib: 64 }).unwrap(),
        Request::put_guest_boot_source(&BootSource { kernel_image_path, boot_args, initrd_path: None }).unwrap(),
        Request::start_instance().unwrap(),
        Request::describe_instance(),
    ];
    for request in &requests {
        connection.send(request).unwrap();
    }
    for request in &requests {
        let response = loop {
            match connection.read_response().unwrap() {
                Some(response) => break response,
                None => crate::process::wait_readable(&connection, WAIT_MAX),
            }
        };
        assert_eq!(response.operation(), request.operation());
        if response.operation() == Operation::DescribeInstance {
            assert_eq!(response.instance_info().unwrap().state, InstanceState::Running);
        }
    }
    process.serial.wait_line("tick");
}

#[test]
fn each_end_has_its_exit_code_and_log_line() {
    let Some(programs) = Programs::find() else { return };
    let template = Template::make(&programs);
    let end_by = |command: u8| {
        let mut process = Process::clone(&programs, &template);
        process.serial.command(command);
        (process.wait_exit(), process.log())
    };
    // The keyboard controller's reset: a Linux guest uses it to power off and, with `panic=-1`, after a panic.
    let (status, log) = end_by(b'r');
    assert!(status.success() && !log.contains("KVM_EXIT"), "{log}");
    let (status, log) = end_by(b't');
    assert!(status.success() && log.contains("Received KVM_EXIT_SHUTDOWN signal"), "{log}");
    // The exit code is 0 or 1: 1.12 reads the processor's exit code before the processor has sent it.
    let (status, log) = end_by(b'i');
    assert!(status.code().is_some() && log.contains("Received KVM_EXIT_INTERNAL_ERROR signal"), "{log}");
}

#[test]
fn kill_closes_the_connection() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::boot(&programs);
    process.child.kill().unwrap();
    assert_eq!(process.wait_exit().signal(), Some(9));
    assert!(matches!(process.client.describe_instance(), Err(Error::Closed { .. })));
}

#[test]
fn halted_guest_keeps_the_process_running() {
    let Some(programs) = Programs::find() else { return };
    let mut process = Process::boot(&programs);
    process.serial.command(b'h');
    process.serial.wait_line("halt");
    assert_eq!(process.client.describe_instance().unwrap().state, InstanceState::Running);
    assert_eq!(process.child.try_wait().unwrap(), None);
}

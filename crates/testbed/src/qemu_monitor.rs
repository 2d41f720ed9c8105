//! Faults of hardware, injected into a QEMU machine over the monitor that its keeper uses.

use crate::MachineProcesses;
use anyhow::{Context, ensure};
use rustix::{
    fd::{AsFd, BorrowedFd},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    os::unix::net::UnixStream,
    time::Duration,
};

/// The address of the machine's ACPI sleep control register (QEMU's microvm: `GED_MMIO_BASE_REGS`).
const SLEEP_CONTROL: u64 = 0xfea0_0200;
/// The sleep-enable bit and the type of S5 (soft off) in QEMU's ACPI tables.
const SOFT_OFF: u8 = 0x20 | 5 << 2;
/// How long QEMU's debugger stub may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Sends a line to QEMU's monitor over a socket of its keeper, with `file` attached. It is unknown which of the keeper's sockets is
/// the monitor's: the line is sent to all of them, and the others ignore it.
fn send_line(processes: &MachineProcesses, line: &str, file: Option<BorrowedFd<'_>>) -> anyhow::Result<()> {
    let keeper = Pid::from_raw(processes.keeper.pid.cast_signed()).context("a process id")?;
    let process = pidfd_open(keeper, PidfdFlags::empty())?;
    let mut sent = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", processes.keeper.pid))?.flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket, number) else { continue };
        let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.map(|file| [file]);
        if let Some(files) = &files {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        let text = format!("{line}\n");
        let written = rustix::net::sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL);
        sent += usize::from(written.is_ok());
    }
    ensure!(sent >= 2, "the monitor's socket is among the sockets of the keeper");
    Ok(())
}

fn send_command(
    processes: &MachineProcesses,
    name: &str,
    arguments: &Value,
    file: Option<BorrowedFd<'_>>,
) -> anyhow::Result<()> {
    send_line(processes, &json!({ "execute": name, "arguments": arguments }).to_string(), file)
}

/// Sends a command of the monitor for people, which has commands that the one for programs has not.
fn send_human_command(processes: &MachineProcesses, command: &str) -> anyhow::Result<()> {
    send_command(processes, "human-monitor-command", &json!({ "command-line": command }), None)
}

/// Why this user cannot inject faults; `None`: it can.
pub fn missing_permission() -> Option<&'static str> {
    let is_root = rustix::process::geteuid().is_root();
    (!is_root).then_some("only the superuser may use the sockets of a keeper, which is undumpable")
}

/// Injects a fatal machine check, as broken memory or a broken processor causes: the guest's kernel panics.
///
/// # Errors
/// The keeper's sockets cannot be used.
pub fn inject_machine_check(processes: &MachineProcesses) -> anyhow::Result<()> {
    // Bank 9: valid, uncorrected, enabled, the context is corrupt; a check is in progress.
    send_human_command(processes, "mce -b 0 9 0xba00000000000000 0x4 0x0 0x0")
}

/// Writes the ACPI register by QEMU's debugger stub, like the guest's kernel at a power off.
///
/// # Errors
/// The keeper's sockets cannot be used, or the stub does not answer.
pub fn power_off_guest(processes: &MachineProcesses) -> anyhow::Result<()> {
    // A confined QEMU cannot make sockets, so it gets a connected one.
    let (mut stub, theirs) = UnixStream::pair()?;
    send_command(processes, "getfd", &json!({ "fdname": "debugger" }), Some(theirs.as_fd()))?;
    drop(theirs);
    let address = json!({ "type": "fd", "data": { "str": "debugger" } });
    let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
    send_command(processes, "chardev-add", &json!({ "id": "debugger", "backend": backend }), None)?;
    send_human_command(processes, "gdbserver chardev:debugger")?;
    stub.set_read_timeout(Some(ANSWER_MAX))?;
    exchange_packet(&mut stub, "Qqemu.PhyMemMode:1")?;
    exchange_packet(&mut stub, &format!("M{SLEEP_CONTROL:x},1:{SOFT_OFF:02x}"))
}

/// Sends one packet of the debugger protocol and reads the response; a stub that ends with its machine sends none.
fn exchange_packet(stub: &mut UnixStream, text: &str) -> anyhow::Result<()> {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    stub.write_all(format!("${text}#{sum:02x}").as_bytes()).context("the debugger stub has closed")?;
    let mut byte = [0];
    loop {
        match stub.read(&mut byte) {
            Ok(1..) if byte == *b"#" => break,
            Ok(1..) => {}
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("the debugger stub does not answer"),
        }
    }
    // The machine may have ended since.
    let _ = stub.write_all(b"+");
    Ok(())
}

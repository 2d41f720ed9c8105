//! Injects the faults by their real causes: signals, a lock of a second writer, a read-only or full file system.

use crate::states::{FaultFixture, State, database};
use anteroom_testbed::{TestServer, fake_rfb_server::ServerBehaviour, processes, serve::read_only_database};
use anteroom_wire::SessionId;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, SqliteConnection};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// Two hours, milliseconds.
pub(crate) const JUMP_MS: i64 = 7_200_000;

/// The process of a machine that receives the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MachinePart {
    Machine,
    Keeper,
    Desktop,
}

/// The process of this part of the session's latest machine, if it exists.
pub(crate) async fn find_process(fixture: &FaultFixture, id: &SessionId, part: MachinePart) -> Option<Pid> {
    let machine = fixture.machine(id).await?;
    let state = fixture.server.state_dir();
    match part {
        MachinePart::Keeper => processes::find_keeper_pid(&state, &machine),
        MachinePart::Machine => processes::find_machine_pid(&state, &machine),
        MachinePart::Desktop => {
            let machine = processes::find_machine_pid(&state, &machine)?.as_raw_nonzero();
            let children = fs::read_to_string(format!("/proc/{machine}/task/{machine}/children")).ok()?;
            let is_desktop = |pid: &&str| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(b"desktop")
            };
            children.split_whitespace().find(is_desktop)?.parse().ok().and_then(Pid::from_raw)
        }
    }
}

pub(crate) fn send_signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap();
}

/// Makes the desktop send more data than the buffers of a stalled viewer hold.
pub(crate) async fn flood_viewers(fixture: &FaultFixture, id: &SessionId) {
    let machine = fixture.machine(id).await.unwrap();
    fixture.server.set_desktop_behaviour(&machine, ServerBehaviour::Flood).await.unwrap();
}

pub(crate) async fn stop_flood(fixture: &FaultFixture) {
    for held in &fixture.sessions {
        if held.state.has_desktop() {
            let machine = fixture.machine(&held.id).await.unwrap();
            fixture.server.set_desktop_behaviour(&machine, ServerBehaviour::Normal).await.unwrap();
        }
    }
}

/// A fault that prevents database writes, until [`DatabaseFault::repair`].
pub(crate) enum DatabaseFault {
    Locked(SqliteConnection),
    ReadOnly(Vec<PathBuf>),
    Full(PathBuf),
}

impl DatabaseFault {
    /// Holds an exclusive lock on the database.
    pub(crate) async fn lock(server: &TestServer) -> Self {
        let mut holder = database(server).await;
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut holder).await.unwrap();
        Self::Locked(holder)
    }

    /// Makes the database files read-only for new and for open file descriptors. Requires a [`namespace`](crate::namespace).
    pub(crate) fn read_only(server: &TestServer) -> Self {
        let files: Vec<PathBuf> =
            read_only_database::DATABASE_FILES.iter().map(|name| server.state_dir().join(name)).collect();
        for file in &files {
            run_checked(command("mount").arg("--bind").args([file, file]));
            run_checked(command("mount").args(["-o", "remount,bind,ro"]).arg(file));
            let error = File::options().append(true).open(file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{}", file.display());
        }
        server.set_database_read_only(true).unwrap();
        Self::ReadOnly(files)
    }

    /// Fills the file system of the state directory. Requires a [`SmallFileSystem`].
    pub(crate) fn fill(server: &TestServer) -> Self {
        let path = server.state_dir().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [64 * 1024, 1] {
            let chunk = vec![1; size];
            while file.write_all(&chunk).is_ok() {}
        }
        Self::Full(path)
    }

    pub(crate) async fn repair(self, server: &TestServer) {
        match self {
            Self::Locked(mut holder) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
                holder.close().await.unwrap();
            }
            Self::ReadOnly(files) => {
                // A lazy unmount: processes may have opened the files during the fault.
                files.iter().for_each(|file| run_checked(command("umount").arg("--lazy").arg(file)));
                server.set_database_read_only(false).unwrap();
            }
            Self::Full(path) => fs::remove_file(path).unwrap(),
        }
    }
}

/// A command of the host.
#[allow(clippy::disallowed_methods, reason = "host commands inject these faults")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

pub(crate) fn run_checked(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A small file system mounted at a server's state directory, in a [`namespace`](crate::namespace).
pub(crate) struct SmallFileSystem(PathBuf);

impl SmallFileSystem {
    /// Enough for the database and the files of the machines, and little more.
    const SIZE: &str = "size=24m,mode=0700";
    /// Enough for the machines.
    const MACHINES: &str = "size=64m,mode=0700";

    /// Empties the directory and mounts the file systems.
    pub(crate) fn mount_at(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        mount(Self::SIZE, dir);
        // The files of a real machine are in its memory: a full host disk does not affect them.
        let machines = dir.join("run");
        fs::create_dir(&machines).unwrap();
        mount(Self::MACHINES, &machines);
        Self(dir.to_owned())
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // Best effort: the mounts are removed with their namespace in any case.
        for place in [self.0.join("run"), self.0.clone()] {
            let _ = command("umount").args(["--quiet", "--lazy"]).arg(place).status();
        }
        if let Some(server) = self.0.parent() {
            let _ = fs::remove_dir_all(server);
        }
    }
}

fn mount(options: &str, place: &Path) {
    run_checked(command("mount").args(["-t", "tmpfs", "-o", options, "anteroom-test"]).arg(place));
}

/// Whether a viewer of a session in this state receives data and can therefore stall.
pub(crate) fn can_stall(state: State) -> bool {
    state.has_desktop()
}

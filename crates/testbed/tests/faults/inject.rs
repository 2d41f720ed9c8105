//! Doing the harm, by what really does it: signals, a second writer's lock, a file system that is read-only or full.

use crate::states::{Scene, State, database};
use anteroom_testbed::{TestServer, fake_rfb_server::Behaviour, processes, serve::read_only_database};
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

/// The process of a machine that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Machine,
    Keeper,
    Desktop,
}

/// The process of this part of the session's last machine, if there is one.
pub(crate) async fn process(scene: &Scene, id: &SessionId, part: Part) -> Option<Pid> {
    let machine = scene.machine(id).await?;
    let state = scene.world.state_dir();
    match part {
        Part::Keeper => processes::keeper_pid(&state, &machine),
        Part::Machine => processes::machine_pid(&state, &machine),
        Part::Desktop => {
            let machine = processes::machine_pid(&state, &machine)?.as_raw_nonzero();
            let children = fs::read_to_string(format!("/proc/{machine}/task/{machine}/children")).ok()?;
            let is_desktop = |pid: &&str| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(b"desktop")
            };
            children.split_whitespace().find(is_desktop)?.parse().ok().and_then(Pid::from_raw)
        }
    }
}

pub(crate) fn send(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap();
}

/// Has the desktop send more than a viewer takes that takes nothing.
pub(crate) async fn flood(scene: &Scene, id: &SessionId) {
    let machine = scene.machine(id).await.unwrap();
    scene.world.set_desktop_behaviour(&machine, Behaviour::Flood).await.unwrap();
}

pub(crate) async fn calm(scene: &Scene) {
    for held in &scene.held {
        if held.state.has_desktop() {
            let machine = scene.machine(&held.id).await.unwrap();
            scene.world.set_desktop_behaviour(&machine, Behaviour::Normal).await.unwrap();
        }
    }
}

/// What keeps the database from being written. [`Trouble::over`] ends it.
pub(crate) enum Trouble {
    Locked(SqliteConnection),
    ReadOnly(Vec<PathBuf>),
    Full(PathBuf),
}

impl Trouble {
    /// Another program has the database's lock.
    pub(crate) async fn lock(world: &TestServer) -> Self {
        let mut holder = database(world).await;
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut holder).await.unwrap();
        Self::Locked(holder)
    }

    /// The database's files may not be changed: neither by who opens them from now on nor through files that are open. To be
    /// called in a [`namespace`](crate::namespace).
    pub(crate) fn read_only(world: &TestServer) -> Self {
        let files: Vec<PathBuf> = read_only::FILES.iter().map(|name| world.state_dir().join(name)).collect();
        for file in &files {
            must(command("mount").arg("--bind").args([file, file]));
            must(command("mount").args(["-o", "remount,bind,ro"]).arg(file));
            let refused = File::options().append(true).open(file).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem, "{}", file.display());
        }
        world.set_database_read_only(true).unwrap();
        Self::ReadOnly(files)
    }

    /// Every byte of the state directory's file system is used. To be called in a world whose state lies on a [`Small`] one.
    pub(crate) fn fill(world: &TestServer) -> Self {
        let path = world.state_dir().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [64 * 1024, 1] {
            let chunk = vec![1; size];
            while file.write_all(&chunk).is_ok() {}
        }
        Self::Full(path)
    }

    pub(crate) async fn over(self, world: &TestServer) {
        match self {
            Self::Locked(mut holder) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
                holder.close().await.unwrap();
            }
            Self::ReadOnly(files) => {
                // Whoever opened one of them meanwhile has it open still.
                files.iter().for_each(|file| must(command("umount").arg("--lazy").arg(file)));
                world.set_database_read_only(false).unwrap();
            }
            Self::Full(path) => fs::remove_file(path).unwrap(),
        }
    }
}

/// A program of the host.
#[allow(clippy::disallowed_methods, reason = "the host's own tools bring these faults about")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A small file system of its own under a world's state directory, in a [`namespace`](crate::namespace).
pub(crate) struct Small(PathBuf);

impl Small {
    /// Room for the databases of all states and their machines' files, and little more.
    const SIZE: &str = "size=24m,mode=0700";
    /// Room for the machines.
    const MACHINES: &str = "size=64m,mode=0700";

    /// Mounts it.
    pub(crate) fn under(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        mount(Self::SIZE, dir);
        // A real machine's files lie in its own memory: a host's disk that is full does not reach them.
        let machines = dir.join("run");
        fs::create_dir(&machines).unwrap();
        mount(Self::MACHINES, &machines);
        Self(dir.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whoever failed before this has said so; the mounts go with their namespace in any case.
        for place in [self.0.join("run"), self.0.clone()] {
            let _ = command("umount").args(["--quiet", "--lazy"]).arg(place).status();
        }
        if let Some(world) = self.0.parent() {
            let _ = fs::remove_dir_all(world);
        }
    }
}

fn mount(options: &str, place: &Path) {
    must(command("mount").args(["-t", "tmpfs", "-o", options, "anteroom-test"]).arg(place));
}

/// Whether a viewer of a session in this state can be slow: it is sent something.
pub(crate) fn can_be_slow(state: State) -> bool {
    state.has_desktop()
}

//! Starts a confined VMM.

use super::{
    cgroup::VmmCgroup,
    child::{self, ChildPlan},
    landlock_rules,
    layers::{Layer, LayerStatus},
    notifications::{Denials, Notifications, Violation},
    oom_order::{self, OomOrder},
    raw::{self, Forked},
    root_dir::RootDir,
    starter::{Starter, user_namespaces_off},
    system_calls,
};
use crate::spec::ResourceLimits;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
    process::{Pid, Signal, WaitOptions},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    io::{self, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::ExitStatus,
};

/// The user of a VMM in its user namespace.
const USER_INSIDE: u32 = 1_000;
/// The smallest number of a descriptor that the child needs for itself; the VMM's files have smaller ones.
const FIRST_KEEPER_FD: RawFd = 64;

/// A file that the keeper has opened and the VMM opens by a name.
pub(crate) struct OpenFile {
    pub(crate) name: String,
    pub(crate) file: OwnedFd,
    /// Whether the VMM may open it only before it is sealed.
    pub(crate) start_only: bool,
}

/// A listening Unix socket of the keeper, which the VMM gets when it binds a socket to `name`. The name exists in no directory.
pub(crate) struct OpenListener {
    pub(crate) name: String,
    pub(crate) listener: OwnedFd,
}

/// What to execute.
pub(crate) struct Execution {
    pub(crate) program: OwnedFd,
    /// Whether the program needs libraries and data below `/usr`: it is not static.
    pub(crate) libraries: bool,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// Files and their numbers in the process.
    pub(crate) fds: Vec<(OwnedFd, RawFd)>,
    pub(crate) files: Vec<OpenFile>,
    pub(crate) listeners: Vec<OpenListener>,
    pub(crate) limits: ResourceLimits,
    /// Distinguishes the machines of one host: chooses the host's user id of a VMM that the superuser starts.
    pub(crate) number: u32,
}

/// Why a VMM was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{step}")]
    Step {
        /// What could not be done.
        step: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    NotExecuted(io::Error),
    #[error("the VMM made the system call {0}, which is not allowed")]
    Violation(String),
}

/// A confined VMM.
pub(crate) struct ConfinedProcess {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) layers: BTreeMap<Layer, LayerStatus>,
    notifications: Notifications,
    root_dir: Option<RootDir>,
    in_user_namespace: bool,
    /// Removed with this.
    cgroup: Option<VmmCgroup>,
}

impl ConfinedProcess {
    /// Readable when a system call of the VMM waits for an answer. `None` once no thread is left that could make one: a process
    /// whose threads have ended can still wait for its tracer or its parent.
    pub(crate) fn pending_calls(&self) -> Option<BorrowedFd<'_>> {
        self.notifications.has_callers().then(|| self.notifications.as_fd())
    }

    /// Answers the system calls of the VMM that wait for an answer. Returns the call for which the VMM must be killed.
    pub(crate) fn answer_calls(&mut self) -> Option<Violation> {
        self.notifications.answer_pending(self.pid)
    }

    /// Takes away what only the start needed: call it when the VMM has started, before the guest runs.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.notifications.seal();
        self.root_dir.take().map_or(Ok(()), |root_dir| root_dir.unmount_all(self.pid, self.in_user_namespace))
    }

    /// Kills it and waits for it; returns its exit status.
    pub(crate) fn kill(&self) -> Option<ExitStatus> {
        // It may have exited.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.wait(WaitOptions::empty())
    }

    /// Its exit status, if it has exited; call it until then only.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        self.wait(WaitOptions::NOHANG)
    }

    fn wait(&self, options: WaitOptions) -> Option<ExitStatus> {
        let (_, status) = rustix::process::waitpid(Some(self.pid), options).ok().flatten()?;
        Some(ExitStatus::from_raw(status.as_raw()))
    }

    /// Closes the files and listeners that the VMM could still open: call it when the VMM has exited.
    pub(crate) fn close_files(&mut self) {
        self.notifications.close_files();
    }

    /// What was denied.
    pub(crate) fn denials(&self) -> &Denials {
        self.notifications.denials()
    }
}

/// The namespaces of an attempt to start a VMM, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespaces {
    All,
    /// The superuser makes the other namespaces without a user namespace.
    WithoutUser,
    None,
}

/// Starts the VMM with all layers that this host has.
///
/// # Errors
/// The program cannot be executed, or a layer that every supported host has cannot be applied.
pub(crate) fn spawn(mut execution: Execution) -> Result<ConfinedProcess, SpawnError> {
    let cgroup = VmmCgroup::create(&execution.limits, execution.number);
    let oom_order = OomOrder::set_for_vmm();
    let spawned = spawn_in_namespaces(&mut execution, cgroup.as_ref().ok());
    let oom_order = oom_order.and_then(|mut order| order.set_for_keeper());
    let mut confined = spawned?;
    confined
        .layers
        .insert(Layer::OomOrder, oom_order.map_or_else(|error| oom_order::off(&error), |()| LayerStatus::On));
    let (cgroup, cgroup_status) = cgroup.map_or_else(|off| (None, off), |cgroup| (Some(cgroup), LayerStatus::On));
    confined.layers.insert(Layer::Cgroup, cgroup_status);
    confined.cgroup = cgroup;
    Ok(confined)
}

/// Starts the VMM with the strongest namespaces that this host has.
fn spawn_in_namespaces(execution: &mut Execution, cgroup: Option<&VmmCgroup>) -> Result<ConfinedProcess, SpawnError> {
    let starter = Starter::of_this_process();
    let mut refused = None;
    for namespaces in [Namespaces::All, Namespaces::WithoutUser, Namespaces::None] {
        if namespaces == Namespaces::WithoutUser && starter == Starter::OrdinaryUser {
            continue;
        }
        match try_spawn(execution, namespaces, starter, cgroup) {
            Ok(mut confined) => {
                confined.record_namespaces(namespaces, starter, refused.as_ref());
                return Ok(confined);
            }
            Err(Failure::Namespaces(error)) if namespaces != Namespaces::None => {
                // The first one is the cause.
                refused.get_or_insert(error);
            }
            Err(Failure::Namespaces(source)) => {
                return Err(SpawnError::Step { step: "a process cannot be made".into(), source });
            }
            Err(Failure::Other(error)) => return Err(error),
        }
    }
    Err(SpawnError::Step { step: "a process cannot be made".into(), source: io::ErrorKind::Unsupported.into() })
}

enum Failure {
    /// The host has no such namespaces, or does not allow them.
    Namespaces(io::Error),
    Other(SpawnError),
}

fn step(step: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Other(SpawnError::Step { step: step.into(), source })
}

fn try_spawn(
    execution: &mut Execution,
    namespaces: Namespaces,
    starter: Starter,
    cgroup: Option<&VmmCgroup>,
) -> Result<ConfinedProcess, Failure> {
    let foreign_user = starter.foreign_user(execution.number);
    let (flags, user) = match namespaces {
        Namespaces::All => (raw::USER_NAMESPACE | raw::OTHER_NAMESPACES, Some(USER_INSIDE)),
        Namespaces::WithoutUser => (raw::OTHER_NAMESPACES, foreign_user),
        Namespaces::None => (0, foreign_user),
    };
    let root_dir = plan_root_dir(namespaces, user, execution.libraries)?;
    let landlock = landlock_rules::ruleset(execution.program.as_fd(), execution.libraries)
        .map_err(|error| step("Landlock rules cannot be made")(io::Error::other(error)))?;
    let mut filter = system_calls::filter()
        .map_err(|error| step("the list of system calls cannot be compiled")(io::Error::other(error)))?;
    let (ours, theirs) = UnixStream::pair().map_err(step("a socket pair cannot be made"))?;
    // Above the numbers of the VMM's files, which would replace them in the child.
    let above = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(&fd, FIRST_KEEPER_FD).map_err(io::Error::from);
    let theirs = above(theirs.into()).map_err(step("a descriptor cannot be duplicated"))?;
    let landlock = landlock.map(above).transpose().map_err(step("a descriptor cannot be duplicated"))?;
    let landlock_status = landlock_rules::layer(landlock.is_some());
    let (pid, pidfd) = match raw::fork(flags).map_err(Failure::Namespaces)? {
        Forked::Child => child::run(ChildPlan {
            keeper: theirs.into(),
            fds: &execution.fds,
            root_dir: root_dir.as_ref(),
            limits: execution.limits,
            count_threads: user.is_some(),
            user,
            landlock: landlock.as_ref().map(AsFd::as_fd),
            filter: &mut filter,
            program: execution.program.as_fd(),
            args: &execution.args,
            env: &execution.env,
        }),
        Forked::Parent(pid, pidfd) => (pid, pidfd),
    };
    drop((theirs, landlock));
    let guard = KillOnDrop(Some(pid));
    if let Some(cgroup) = cgroup {
        cgroup.add(pid).map_err(step("the new process cannot be moved to its cgroup"))?;
    }
    if namespaces == Namespaces::All {
        map_ids(pid, foreign_user).map_err(Failure::Namespaces)?;
    }
    (&ours).write_all(b"m").map_err(step("the new process has ended"))?;
    let listener = receive_listener(&ours)?;
    let mut notifications =
        Notifications::new(listener, std::mem::take(&mut execution.files), std::mem::take(&mut execution.listeners));
    await_execution(&ours, &mut notifications, pid)?;
    guard.disarm();
    let layers = BTreeMap::from([
        (Layer::SystemCalls, LayerStatus::On),
        (Layer::ResourceLimits, LayerStatus::On),
        (Layer::Landlock, landlock_status),
    ]);
    Ok(ConfinedProcess {
        pid,
        pidfd,
        layers,
        notifications,
        root_dir,
        in_user_namespace: namespaces == Namespaces::All,
        cgroup: None,
    })
}

fn plan_root_dir(namespaces: Namespaces, user: Option<u32>, libraries: bool) -> Result<Option<RootDir>, Failure> {
    match namespaces {
        Namespaces::All | Namespaces::WithoutUser => {
            let owner = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
            RootDir::plan(owner, libraries).map(Some).map_err(step("the root directory cannot be planned"))
        }
        Namespaces::None => Ok(None),
    }
}

/// Maps the user and group of the child. `foreign`: to an id that owns nothing; otherwise to this process's own.
fn map_ids(child: Pid, foreign: Option<u32>) -> io::Result<()> {
    let dir = format!("/proc/{}", child.as_raw_nonzero());
    let (user, group) = match foreign {
        Some(id) => (id, id),
        None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    // An ordinary user may map a group only where groups cannot be dropped (user_namespaces(7)).
    fs::write(format!("{dir}/setgroups"), "deny")?;
    fs::write(format!("{dir}/uid_map"), format!("{USER_INSIDE} {user} 1\n"))?;
    fs::write(format!("{dir}/gid_map"), format!("{USER_INSIDE} {group} 1\n"))
}

/// Kills and reaps the child unless it is disarmed.
struct KillOnDrop(Option<Pid>);

impl KillOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

fn receive_listener(keeper: &UnixStream) -> Result<OwnedFd, Failure> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 6];
    let received =
        rustix::net::recvmsg(keeper, &mut [io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = received.map_err(|error| step("the new process does not answer")(error.into()))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(fd);
        }
    }
    Err(failed_step(bytes.get(..received.bytes).unwrap_or_default()))
}

/// The failure that the child reported.
fn failed_step(report: &[u8]) -> Failure {
    let [b'e', number, errno @ ..] = report else {
        return step("the new process ended before it executed the VMM")(io::ErrorKind::UnexpectedEof.into());
    };
    let errno = errno.try_into().map(i32::from_le_bytes).unwrap_or(0);
    let error = io::Error::from_raw_os_error(errno);
    match child::Step::ALL.get(usize::from(*number)) {
        Some(child::Step::RootDirectory) => Failure::Namespaces(error),
        Some(failed) => step(failed.failure())(error),
        None => step("the new process sent an unknown report")(error),
    }
}

/// Answers the child's system calls until it has executed the program.
fn await_execution(keeper: &UnixStream, notifications: &mut Notifications, pid: Pid) -> Result<(), Failure> {
    loop {
        let mut files = [PollFd::new(keeper, PollFlags::IN), PollFd::new(&*notifications, PollFlags::IN)];
        let _ = poll(&mut files, None);
        let (reported, notified) = (!files[0].revents().is_empty(), !files[1].revents().is_empty());
        if notified && let Some(violation) = notifications.answer_pending(pid) {
            return Err(Failure::Other(SpawnError::Violation(violation.system_call)));
        }
        if reported {
            let mut report = [0; 6];
            let length = rustix::io::read(keeper, &mut report).unwrap_or(0);
            // The connection is closed by the execution.
            return match report.get(..length) {
                Some([]) => Ok(()),
                Some([b'e', _, errno @ ..]) => Err(Failure::Other(SpawnError::NotExecuted(
                    io::Error::from_raw_os_error(errno.try_into().map(i32::from_le_bytes).unwrap_or(0)),
                ))),
                _ => Err(step("the new process sent an unknown report")(io::ErrorKind::InvalidData.into())),
            };
        }
    }
}

impl ConfinedProcess {
    fn record_namespaces(&mut self, namespaces: Namespaces, starter: Starter, refused: Option<&io::Error>) {
        let status = |on: bool| match refused {
            Some(error) if !on => user_namespaces_off(error),
            Some(_) | None => LayerStatus::On,
        };
        self.layers.insert(Layer::User, starter.user_layer());
        self.layers.insert(Layer::UserNamespace, status(namespaces == Namespaces::All));
        self.layers.insert(Layer::Namespaces, status(namespaces != Namespaces::None));
        self.layers.insert(Layer::RootDirectory, status(namespaces != Namespaces::None));
    }
}

//! The steps in the new process, from its start to the execution of the VMM.

use super::{limits, raw, root_dir::RootDir};
use crate::spec::ResourceLimits;
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    process::Signal,
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs},
};
use std::{
    ffi::CString,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    ptr,
};

/// A step of the confinement, in the order in which the child takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    IdMap,
    FileDescriptors,
    RootDirectory,
    ResourceLimits,
    User,
    Capabilities,
    ParentDeathSignal,
    NoNewPrivileges,
    Landlock,
    SystemCalls,
    Execution,
}

impl Step {
    pub(super) const ALL: [Self; 11] = [
        Self::IdMap,
        Self::FileDescriptors,
        Self::RootDirectory,
        Self::ResourceLimits,
        Self::User,
        Self::Capabilities,
        Self::ParentDeathSignal,
        Self::NoNewPrivileges,
        Self::Landlock,
        Self::SystemCalls,
        Self::Execution,
    ];

    /// What failed, as the beginning of an error message.
    pub(super) fn failure(self) -> &'static str {
        match self {
            Self::IdMap => "the new process was not given its user ids",
            Self::FileDescriptors => "the new process cannot take its files",
            Self::RootDirectory => "its empty root directory cannot be made",
            Self::ResourceLimits => "its resource limits cannot be set (setrlimit)",
            Self::User => "its user cannot be changed to one that owns nothing",
            Self::Capabilities => "its capabilities cannot be given up",
            Self::ParentDeathSignal => "it cannot be bound to the life of its keeper",
            Self::NoNewPrivileges => "it cannot give up new privileges (PR_SET_NO_NEW_PRIVS)",
            Self::Landlock => "Landlock rules cannot be applied",
            Self::SystemCalls => {
                "its list of system calls cannot be installed: the kernel needs CONFIG_SECCOMP_FILTER, and the server must \
                 not run under another program that receives notifications of seccomp"
            }
            Self::Execution => "it cannot be executed",
        }
    }
}

const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// What the child does. Everything is made before it starts.
pub(super) struct ChildPlan<'a> {
    /// The connection to the keeper; above all numbers of `fds`.
    pub(super) keeper: UnixStream,
    pub(super) fds: &'a [(OwnedFd, RawFd)],
    pub(super) root_dir: Option<&'a RootDir>,
    pub(super) limits: ResourceLimits,
    /// Whether its threads can be counted separately from other processes of its user.
    pub(super) count_threads: bool,
    pub(super) user: Option<u32>,
    pub(super) landlock: Option<BorrowedFd<'a>>,
    pub(super) filter: &'a mut [libc::sock_filter],
    pub(super) program: BorrowedFd<'a>,
    pub(super) args: &'a [CString],
    pub(super) env: &'a [CString],
}

/// Takes all steps. Reports the step that failed to the keeper.
pub(super) fn run(mut plan: ChildPlan<'_>) -> ! {
    let (step, error) = match take_steps(&mut plan) {
        Err(failed) => failed,
        Ok(never) => match never {},
    };
    let number =
        Step::ALL.iter().position(|other| *other == step).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
    let errno = error.raw_os_error().unwrap_or(0).to_le_bytes();
    let _ = plan.keeper.write_all(&[&[b'e', number][..], &errno].concat());
    raw::exit_now(1)
}

fn take_steps(plan: &mut ChildPlan<'_>) -> Result<std::convert::Infallible, (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    // The keeper writes a byte when it has mapped the ids; if it has died, the connection is closed.
    plan.keeper.read_exact(&mut [0]).map_err(at(Step::IdMap))?;
    inherit(plan.fds).map_err(at(Step::FileDescriptors))?;
    if let Some(user) = plan.user {
        raw::set_file_ids(user);
    }
    if let Some(root_dir) = plan.root_dir {
        root_dir.enter().map_err(at(Step::RootDirectory))?;
    }
    limits::apply(&plan.limits, plan.count_threads).map_err(at(Step::ResourceLimits))?;
    if let Some(user) = plan.user {
        raw::become_user(user).map_err(at(Step::User))?;
    }
    // A user that keeps its id may be the superuser of a container.
    set_capabilities(None, NO_CAPABILITIES).map_err(|error| (Step::Capabilities, error.into()))?;
    // After the change of the user, which clears it (PR_SET_PDEATHSIG(2const)).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| (Step::ParentDeathSignal, error.into()))?;
    set_no_new_privs(true).map_err(|error| (Step::NoNewPrivileges, error.into()))?;
    if let Some(ruleset) = plan.landlock {
        raw::restrict_self(ruleset).map_err(at(Step::Landlock))?;
    }
    let listener = raw::install_filter(plan.filter).map_err(at(Step::SystemCalls))?;
    raw::send_fd(&plan.keeper, listener.as_fd()).map_err(at(Step::SystemCalls))?;
    // Waits for the keeper's answer; without a keeper it fails.
    Err((Step::Execution, raw::execute(plan.program, &pointers(plan.args), &pointers(plan.env))))
}

fn inherit(fds: &[(OwnedFd, RawFd)]) -> io::Result<()> {
    raw::close_on_exec_from(0)?;
    fds.iter().try_for_each(|(file, number)| raw::duplicate_to(file.as_fd(), *number))
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

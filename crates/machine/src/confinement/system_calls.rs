//! The system calls of a VMM: a list of what is allowed, compiled to a seccomp filter. Every other call is reported to the
//! keeper ([`super::notifications`]), which answers it, records it or kills the VMM.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use syscalls::Sysno;

/// Calls that a VMM makes while its guest runs. Measured with QEMU 7.2 and Firecracker 1.12 over whole sign-ins.
const ALLOWED: &[Sysno] = &[
    // Open files: its sockets, pipes and images.
    Sysno::read,
    Sysno::write,
    Sysno::readv,
    Sysno::writev,
    Sysno::pread64,
    Sysno::pwrite64,
    Sysno::preadv,
    Sysno::pwritev,
    Sysno::preadv2,
    Sysno::pwritev2,
    Sysno::close,
    Sysno::close_range,
    Sysno::fstat,
    Sysno::newfstatat,
    Sysno::lseek,
    Sysno::fcntl,
    Sysno::dup,
    Sysno::dup2,
    Sysno::dup3,
    Sysno::pipe2,
    Sysno::fdatasync,
    Sysno::fsync,
    Sysno::fallocate,
    Sysno::fadvise64,
    Sysno::ftruncate,
    Sysno::flock,
    Sysno::statx,
    // Sockets that are open already: there is no call to make or connect one.
    Sysno::accept4,
    Sysno::sendmsg,
    Sysno::recvmsg,
    Sysno::sendto,
    Sysno::recvfrom,
    Sysno::getsockname,
    Sysno::getpeername,
    Sysno::getsockopt,
    Sysno::setsockopt,
    Sysno::shutdown,
    // Memory.
    Sysno::mmap,
    Sysno::mprotect,
    Sysno::munmap,
    Sysno::mremap,
    Sysno::brk,
    Sysno::madvise,
    Sysno::mincore,
    Sysno::msync,
    Sysno::mlock,
    Sysno::munlock,
    Sysno::membarrier,
    // Events, time and its own threads.
    Sysno::poll,
    Sysno::ppoll,
    Sysno::select,
    Sysno::pselect6,
    Sysno::epoll_create1,
    Sysno::epoll_ctl,
    Sysno::epoll_wait,
    Sysno::epoll_pwait,
    Sysno::eventfd2,
    Sysno::signalfd4,
    Sysno::timerfd_create,
    Sysno::timerfd_settime,
    Sysno::timerfd_gettime,
    Sysno::timer_create,
    Sysno::timer_settime,
    Sysno::timer_delete,
    Sysno::clock_gettime,
    Sysno::clock_getres,
    Sysno::clock_nanosleep,
    Sysno::nanosleep,
    Sysno::gettimeofday,
    Sysno::time,
    Sysno::futex,
    Sysno::futex_waitv,
    Sysno::sched_yield,
    Sysno::sched_getaffinity,
    Sysno::set_robust_list,
    Sysno::get_robust_list,
    Sysno::set_tid_address,
    Sysno::rseq,
    Sysno::exit,
    Sysno::exit_group,
    Sysno::restart_syscall,
    Sysno::rt_sigaction,
    Sysno::rt_sigprocmask,
    Sysno::rt_sigreturn,
    Sysno::rt_sigtimedwait,
    Sysno::rt_sigpending,
    Sysno::rt_sigsuspend,
    Sysno::sigaltstack,
    Sysno::tgkill,
    Sysno::tkill,
    Sysno::arch_prctl,
    Sysno::getpid,
    Sysno::gettid,
    Sysno::getuid,
    Sysno::geteuid,
    Sysno::getgid,
    Sysno::getegid,
    Sysno::getrandom,
    Sysno::sysinfo,
    Sysno::uname,
    Sysno::getrusage,
    Sysno::prlimit64,
];

/// ioctl(2) requests of KVM are of type 0xAE (linux/kvm.h).
const KVM_TYPE: u64 = 0xAE00;
const TYPE_MASK: u64 = 0xFF00;
/// Other ioctl(2) requests: non-blocking mode, bytes that can be read, terminal settings and window size (stdio asks for them).
const OTHER_IOCTLS: [u64; 6] = [0x5421, 0x541B, 0x5401, 0x5413, 0x5450, 0x5451];
const PR_SET_NAME: u64 = 15;
// Each thread of Firecracker installs a filter of its own, possibly after the call that started it was answered. A filter can
// only take rights away.
const PR_SET_NO_NEW_PRIVS: u64 = 38;
const SECCOMP_SET_MODE_FILTER: u64 = 1;

/// `SECCOMP_RET_TRACE` and `SECCOMP_RET_USER_NOTIF` (linux/seccomp.h).
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_NOTIFY: u32 = 0x7fc0_0000;

/// Compiles the filter.
///
/// # Errors
/// The list is invalid, which a test excludes.
pub(super) fn filter() -> Result<Vec<libc::sock_filter>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (number(*call), Vec::new())).collect();
    let argument = |index, op, value| SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value);
    let rule = |condition| SeccompRule::new(vec![condition]);
    let threads = libc::CLONE_THREAD as u64;
    rules.insert(number(Sysno::clone), vec![rule(argument(0, SeccompCmpOp::MaskedEq(threads), threads)?)?]);
    let mut prctls = Vec::new();
    for option in [PR_SET_NAME, PR_SET_NO_NEW_PRIVS] {
        prctls.push(rule(argument(0, SeccompCmpOp::Eq, option)?)?);
    }
    rules.insert(number(Sysno::prctl), prctls);
    rules.insert(number(Sysno::seccomp), vec![rule(argument(0, SeccompCmpOp::Eq, SECCOMP_SET_MODE_FILTER)?)?]);
    let mut ioctls = vec![rule(argument(1, SeccompCmpOp::MaskedEq(TYPE_MASK), KVM_TYPE)?)?];
    for request in OTHER_IOCTLS {
        ioctls.push(rule(argument(1, SeccompCmpOp::Eq, request)?)?);
    }
    rules.insert(number(Sysno::ioctl), ioctls);
    let filter = SeccompFilter::new(rules, SeccompAction::Trace(0), SeccompAction::Allow, TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    // `seccompiler` has no action for notifications: its program differs only in the value that it returns.
    let notify = |instruction: seccompiler::sock_filter| libc::sock_filter {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: if instruction.k == RETURN_TRACE { RETURN_NOTIFY } else { instruction.k },
    };
    Ok(program.into_iter().map(notify).collect())
}

fn number(call: Sysno) -> i64 {
    i64::from(call.id())
}

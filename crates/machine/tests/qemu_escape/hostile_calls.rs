//! Calls for which a confined VMM is killed.

use super::{
    debugger::{self, Script},
    fixture::{Machine, Server, Walls, superuser},
};
use anteroom_machine::ExitReason;
use std::fs;

const PTRACE_SEIZE: i32 = 0x4206;

fn script(name: &'static str, result: String) -> Script {
    Script { name, commands: Vec::new(), result }
}

fn trace(pid: u32) -> String {
    format!("((long(*)(int,int,long,long))ptrace)({PTRACE_SEIZE},{pid},0,0)")
}

/// Reads eight bytes of the process's memory.
fn read_memory(name: &'static str, pid: u32) -> Script {
    // An ordinary user cannot read the addresses of a keeper: any address does for a call that is denied.
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let readable = maps.lines().find(|line| line.contains(" r--p ")).unwrap_or("10000-20000");
    let address = readable.split('-').next().unwrap();
    let call = format!("((long(*)(int,void*,long,void*,long,long))process_vm_readv)({pid},$local,1,$remote,1,0)");
    let commands = [
        "set $space=((long*(*)(unsigned long,unsigned long))calloc)(1,128)".to_owned(),
        "set $local=$space+8".to_owned(),
        "set $local[0]=(long)$space".to_owned(),
        "set $local[1]=8".to_owned(),
        "set $remote=$space+10".to_owned(),
        format!("set $remote[0]=0x{address}"),
        "set $remote[1]=8".to_owned(),
    ];
    Script { name, commands: commands.to_vec(), result: call }
}

fn on_processes(own: &Machine, other: &Machine) -> Vec<Script> {
    vec![
        script("ptrace", trace(std::process::id())),
        script("ptrace", trace(own.keeper)),
        script("ptrace", trace(other.vmm)),
        read_memory("process_vm_readv", std::process::id()),
        read_memory("process_vm_readv", own.keeper),
        read_memory("process_vm_readv", other.vmm),
    ]
}

fn on_the_host() -> Vec<Script> {
    vec![
        script("clone", "((int(*)(void))fork)()".into()),
        script("execve", "((int(*)(const char*,long,long))execve)(\"/usr/bin/env\",0,0)".into()),
        script("unshare", "((int(*)(int))unshare)(0x10000000)".into()),
        script("setns", "((int(*)(int,int))setns)(3,0)".into()),
        script("bpf", "((long(*)(long,long,long,long))syscall)(321,0,0,0)".into()),
    ]
}

#[tokio::test]
async fn vmm_that_makes_a_hostile_call_is_killed_and_its_receipt_names_the_call() {
    let server = Server::start(Walls::Confined).await;
    let other = server.start_machine(0).await;
    let count = on_processes(&other, &other).len() + on_the_host().len();
    for number in 0..count {
        let own = server.start_machine(u8::try_from(number + 1).unwrap()).await;
        let hostile = [on_processes(&own, &other), on_the_host()].concat().swap_remove(number);
        let results = debugger::run(own.vmm, &server.path(""), [&hostile]).await;
        assert!(results.values.is_empty(), "{hostile:?} returned\n{}", results.text);
        let (reason, receipt) = Server::await_exit(&own).await;
        let expected = ExitReason::ForbiddenSystemCall { system_call: hostile.name.to_owned() };
        assert_eq!(reason, expected, "{hostile:?}\n{}\n{receipt:?}", results.text);
        assert!(Server::is_running(&other), "{hostile:?}");
    }
    server.stop_machine(&other).await;
    server.end().await;
}

/// QEMU's own filter is stricter for some calls: it kills, and the kernel reports no call.
#[tokio::test]
async fn calls_that_qemu_itself_denies_end_the_machine_too() {
    let server = Server::start(Walls::Confined).await;
    let mount = "((int(*)(const char*,const char*,const char*,long,long))mount)(\"a\",\"/\",\"tmpfs\",0,0)";
    let setuid = "((long(*)(long,long))syscall)(105,0)";
    for (number, call) in [mount, setuid].into_iter().enumerate() {
        let own = server.start_machine(u8::try_from(number).unwrap()).await;
        let results = debugger::run(own.vmm, &server.path(""), [&script("denied", call.to_owned())]).await;
        assert!(results.values.is_empty(), "{call} returned\n{}", results.text);
        let (reason, _) = Server::await_exit(&own).await;
        assert_eq!(reason, ExitReason::Killed { signal: libc::SIGSYS }, "{call}\n{}", results.text);
    }
    server.end().await;
}

#[tokio::test]
async fn unconfined_vmm_makes_hostile_calls_but_an_ordinary_users_keeper_is_not_dumpable() {
    let server = Server::start(Walls::Unconfined).await;
    let (own, other) = (server.start_machine(1).await, server.start_machine(2).await);
    for (pid, allowed) in [(std::process::id(), true), (other.vmm, true), (own.keeper, superuser())] {
        let scripts = [script("trace", trace(pid)), read_memory("read", pid)];
        let results = debugger::run(own.vmm, &server.path(""), &scripts).await;
        let expected = if allowed { [Some(&0), Some(&8)] } else { [Some(&-1); 2] };
        assert_eq!(["trace", "read"].map(|name| results.values.get(name)), expected, "{pid}\n{}", results.text);
    }
    for machine in [&own, &other] {
        server.stop_machine(machine).await;
    }
    server.end().await;
}

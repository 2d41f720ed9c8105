//! Calls that fail in a confined VMM, and that succeed in one that is not confined, so that this test can fail.

use super::{
    debugger::{self, Script},
    fixture::{MEMORY_MIB, MIB, Machine, Server, THREADS_MAX, Walls, superuser},
};
use std::path::Path;

/// More threads than a VMM may have.
const THREADS_TRIED: u64 = THREADS_MAX * 2;

/// What an attack gains in a VMM that is not confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unconfined {
    /// It succeeds.
    Succeeds,
    /// It succeeds if the server runs as the superuser.
    SucceedsForSuperuser,
}

struct Attack {
    script: Script,
    unconfined: Unconfined,
}

fn attack(name: &'static str, unconfined: Unconfined, commands: &[&str], result: impl Into<String>) -> Attack {
    let commands = commands.iter().map(|command| (*command).to_owned()).collect();
    Attack { script: Script { name, commands, result: result.into() }, unconfined }
}

fn open(path: &Path, flags: i32) -> String {
    format!("((int(*)(const char*,int,int))open)(\"{}\",{flags},0600)", path.display())
}

const READ: i32 = libc::O_RDONLY;
const WRITE: i32 = libc::O_RDWR;
const CREATE: i32 = libc::O_RDWR | libc::O_CREAT;

fn files(server: &Server) -> Vec<Attack> {
    let opened = |name, file: &str, flags| attack(name, Unconfined::Succeeds, &[], open(&server.path(file), flags));
    vec![
        // First: the others open files.
        attack(
            "fill the disk with a file that it has open",
            Unconfined::Succeeds,
            &[
                "set $grown=-1",
                "set $number=3",
                "while $number<40",
                &format!("set $one=((int(*)(int,int,long,long))fallocate)($number,0,{},{MIB})", MEMORY_MIB * MIB),
                "if $one==0\nset $grown=$number\nend",
                "set $number=$number+1",
                "end",
            ],
            "$grown",
        ),
        opened("open the vault's key", "vault.key", READ),
        opened("open the database", "anteroom.db", READ),
        opened("open the log", "anteroom.log", READ),
        opened("open a file in the home directory", "home/credential", READ),
        opened("open the image for writing", "image/rootfs.squashfs", WRITE),
        opened("open the template's memory for writing", "template/ram", WRITE),
        opened("open the template's state for writing", "template/state", WRITE),
        attack("open its own program", Unconfined::Succeeds, &[], open(Path::new("/usr/bin/qemu-system-x86_64"), READ)),
        attack("open the list of processes", Unconfined::Succeeds, &[], open(Path::new("/proc"), READ)),
        attack(
            "fill the disk with a new file",
            Unconfined::Succeeds,
            &[&format!("set $file={}", open(&server.path("fill"), CREATE))],
            format!("((int(*)(int,int,long,long))fallocate)($file,0,0,{MIB})"),
        ),
        attack(
            "fill the memory file system",
            Unconfined::Succeeds,
            &["set $file=((int(*)(const char*,int))memfd_create)(\"fill\",0)"],
            format!("((int(*)(int,int,long,long))fallocate)($file,0,0,{MIB})"),
        ),
    ]
}

fn sockets(server: &Server) -> Vec<Attack> {
    let socket =
        |family: i32, kind: i32, protocol: i32| format!("((int(*)(int,int,int))socket)({family},{kind},{protocol})");
    let connect = |address_bytes: u32| format!("((int(*)(int,void*,int))connect)($socket,$address,{address_bytes})");
    let calloc = "set $address=((char*(*)(unsigned long,unsigned long))calloc)(1,110)";
    let port = server.web.local_addr().unwrap().port().to_be();
    vec![
        attack(
            "connect to the operator's socket",
            Unconfined::Succeeds,
            &[
                &format!("set $socket={}", socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
                calloc,
                "set *(unsigned char*)$address=1",
                &format!("call (int)sprintf($address+2,\"{}\")", server.path("anteroom.sock").display()),
            ],
            connect(110),
        ),
        attack(
            "connect to a TCP port",
            Unconfined::Succeeds,
            &[
                &format!("set $socket={}", socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
                calloc,
                "set *(unsigned char*)$address=2",
                &format!("set *(unsigned short*)($address+2)={port}"),
                "set *(unsigned int*)($address+4)=0x0100007f",
            ],
            connect(16),
        ),
        attack("make a UDP socket", Unconfined::Succeeds, &[], socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
        attack("make a netlink socket", Unconfined::Succeeds, &[], socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        attack("make a VM socket", Unconfined::Succeeds, &[], socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
        attack(
            "make a raw socket",
            Unconfined::SucceedsForSuperuser,
            &[],
            socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ),
        attack(
            "make a packet socket",
            Unconfined::SucceedsForSuperuser,
            &[],
            socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
        ),
    ]
}

fn processes(own: &Machine, other: &Machine) -> Vec<Attack> {
    let signal = |name, pid: i64| attack(name, Unconfined::Succeeds, &[], format!("((int(*)(int,int))kill)({pid},0)"));
    vec![
        signal("signal the server", i64::from(std::process::id())),
        signal("signal its keeper", i64::from(own.keeper)),
        signal("signal another machine", i64::from(other.vmm)),
        signal("signal every process", -1),
        attack(
            "make threads without end",
            Unconfined::Succeeds,
            &[
                "set $semaphore=((char*(*)(unsigned long,unsigned long))calloc)(1,64)",
                "set $thread=((char*(*)(unsigned long,unsigned long))calloc)(1,64)",
                "set $threads=0",
                "set $failed=0",
                &format!("while $failed==0 && $threads<{THREADS_TRIED}"),
                "set $failed=((int(*)(void*,void*,void*,void*))pthread_create)($thread,0,sem_wait,$semaphore)",
                "set $threads=$threads+1",
                "end",
            ],
            "$failed==0 ? 0 : -1",
        ),
        attack(
            "take four times the memory of the host's limit",
            Unconfined::Succeeds,
            &[],
            format!("((long(*)(long,long,int,int,int,long))mmap)(0,{},3,0x4022,-1,0)", 16 * 1024 * MIB),
        ),
    ]
}

fn all(server: &Server, own: &Machine, other: &Machine) -> Vec<Attack> {
    [files(server), sockets(server), processes(own, other)].into_iter().flatten().collect()
}

#[tokio::test]
async fn confined_vmm_reaches_no_file_socket_process_or_memory_but_its_own() {
    let server = Server::start(Walls::Confined).await;
    let (own, other) = (server.start_machine(1).await, server.start_machine(2).await);
    let attacks = all(&server, &own, &other);
    let results = debugger::run(own.vmm, &server.path(""), attacks.iter().map(|attack| &attack.script)).await;
    for attack in &attacks {
        assert_eq!(results.values.get(attack.script.name), Some(&-1), "{:?}\n{}", attack.script, results.text);
    }
    assert!(Server::is_running(&own) && Server::is_running(&other));
    let receipt = server.stop_machine(&own).await;
    let denied = |name: &str| receipt.denied_system_calls.get(name).copied().unwrap_or(0);
    let denials = [denied("openat"), denied("socket"), denied("kill"), denied("memfd_create")];
    assert!(denials >= [9, 7, 4, 1], "{:?}", receipt.denied_system_calls);
    assert!(receipt.denied_paths.iter().any(|path| path.ends_with("/vault.key")), "{:?}", receipt.denied_paths);
    let untouched = server.stop_machine(&other).await;
    assert!(untouched.denied_system_calls.is_empty(), "{:?}", untouched.denied_system_calls);
    server.end().await;
}

#[tokio::test]
async fn unconfined_vmm_reaches_all_of_it() {
    let server = Server::start(Walls::Unconfined).await;
    let (own, other) = (server.start_machine(1).await, server.start_machine(2).await);
    let attacks = all(&server, &own, &other);
    let results = debugger::run(own.vmm, &server.path(""), attacks.iter().map(|attack| &attack.script)).await;
    for attack in &attacks {
        let succeeds = match attack.unconfined {
            Unconfined::Succeeds => true,
            Unconfined::SucceedsForSuperuser => superuser(),
        };
        let value = results.values.get(attack.script.name);
        assert_eq!(value.map(|value| *value != -1), Some(succeeds), "{:?}\n{}", attack.script, results.text);
    }
    for machine in [&own, &other] {
        server.stop_machine(machine).await;
    }
    server.end().await;
}

//! What `/proc` shows of a confined VMM, its keeper and its server.

use super::fixture::{Server, Walls, superuser};
use anteroom_machine::{Layer, LayerStatus};
use std::fs;

fn status_field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
}

fn limit(pid: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    line.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn confined_vmm_holds_no_writable_file_no_capability_and_no_shared_namespace() {
    let server = Server::start(Walls::Confined).await;
    let machine = server.start_machine(1).await;
    let vmm = machine.vmm;
    for entry in fs::read_dir(format!("/proc/{vmm}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let info = fs::read_to_string(format!("/proc/{vmm}/fdinfo/{}", entry.file_name().display())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let writable = u32::from_str_radix(flags, 8).unwrap() & 3 != 0;
        let is_file = target.is_absolute() && !target.starts_with("/dev/null") && !target.starts_with("/memfd:");
        assert!(!(is_file && writable), "{target:?} is writable");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(vmm, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(vmm, "NoNewPrivs"), "1");
    assert_eq!(status_field(vmm, "Seccomp"), "2");
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&vmm.to_string()), of("self"), "{namespace}");
    }
    let user = status_field(vmm, "Uid");
    let own = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(user.split_whitespace().any(|id| id == own), !superuser(), "{user}");
    for (name, value) in [("Max file size", "0"), ("Max processes", "80"), ("Max open files", "128")] {
        assert_eq!(limit(vmm, name), value, "{name}");
    }
    let receipt = server.stop_machine(&machine).await;
    assert_eq!(receipt.confinement.len(), 9, "{:?}", receipt.confinement);
    for (layer, status) in &receipt.confinement {
        let may_be_off = match layer {
            Layer::User => !superuser(),
            // Kernels and hosts differ in these.
            Layer::Landlock | Layer::Cgroup => true,
            Layer::UserNamespace
            | Layer::Namespaces
            | Layer::RootDirectory
            | Layer::SystemCalls
            | Layer::ResourceLimits
            | Layer::OomOrder => false,
        };
        assert!(may_be_off || *status == LayerStatus::On, "{layer:?}: {status:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn kernel_kills_a_vmm_before_its_keeper_and_a_keeper_before_the_server() {
    let server = Server::start(Walls::Confined).await;
    let machine = server.start_machine(1).await;
    let adjustment =
        |pid: u32| -> i32 { fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap() };
    let order = [machine.vmm, machine.keeper, std::process::id()].map(adjustment);
    assert!(order.is_sorted_by(|first, second| first > second), "{order:?}");
    assert_eq!(order[0], 1_000);
    server.stop_machine(&machine).await;
    server.end().await;
}

#[tokio::test]
async fn memory_of_a_machine_is_in_no_core_file() {
    let server = Server::start(Walls::Confined).await;
    let machine = server.start_machine(1).await;
    assert_eq!([machine.vmm, machine.keeper].map(|pid| limit(pid, "Max core file size")), ["0", "0"]);
    // A core that goes to a program has no limit, but no memory.
    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", machine.vmm)).unwrap();
    assert_eq!(filter.trim(), "00000000");
    // The files of a process that is not dumpable belong to the superuser.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/mem", machine.keeper)).unwrap());
    assert_eq!(owner, 0);
    let memory = fs::File::open(format!("/proc/{}/mem", machine.keeper));
    assert_eq!(memory.is_ok(), superuser(), "{memory:?}");
    server.stop_machine(&machine).await;
    server.end().await;
}

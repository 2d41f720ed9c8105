//! docs/install.md: the OCI image with podman, word for word. Everything that podman makes is in a directory and in namespaces of the test.

use super::{
    command,
    container::{copy_templates, export_image},
    output, project,
};
use std::{fs, path::Path, time::Duration};
use tokio::time::timeout;

/// For hosts whose limits are lower than podman's defaults, and without systemd.
const SETTINGS: &str = "[containers]\ndefault_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']\n\
    [engine]\nruntime = 'runc'\ncgroup_manager = 'cgroupfs'\nevents_logger = 'file'\n";
/// Process 1 of the namespaces, whose arguments are the documented commands and those that follow. What an engine keeps in /run and
/// /var/lib/cni ends with the namespaces.
const ALONE: &str = "set -euo pipefail\nmount -t tmpfs none /run\nif [ -d /var/lib/cni ]; then mount -t tmpfs none /var/lib/cni; fi\n\
    ip link set lo up\neval \"$1\"\neval \"$2\"\n";
/// Asks the server through the published port, and removes the container and the image.
const AFTERWARDS: &str = "\
    curl --silent --show-error --fail --noproxy '*' --header 'Host: anteroom.example' http://127.0.0.1:7060/health > health\n\
    podman logs anteroom > log 2>&1\n\
    podman rm --force --time 20 anteroom > removed\n\
    podman rmi anteroom >> removed\n\
    { podman ps --all --quiet; podman volume ls --quiet; podman images --quiet; } > left\n\
    find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2> /dev/null || true\n";
const RUN_MAX: Duration = Duration::from_secs(900);

/// The documented block, on a host that may have no KVM.
fn documented() -> String {
    let page = fs::read_to_string(project("docs/install.md")).unwrap();
    let (_, rest) = page.split_once("```sh with-podman\n").unwrap();
    let block = rest.split("```").next().unwrap();
    let kvm = "--device /dev/kvm --group-add \"$(stat -c %g /dev/kvm)\" ";
    assert!(block.contains(kvm), "{block}");
    if Path::new("/dev/kvm").exists() { block.to_owned() } else { block.replace(kvm, "") }
}

/// Runs the block with the image of this layout.
pub(super) async fn runs_as_documented(layout: &Path) {
    let directory = tempfile::tempdir_in(layout.parent().unwrap()).unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("release")).unwrap();
    export_image(&at("release").join(concat!("anteroom-image-", env!("CARGO_PKG_VERSION"), ".tar"))).await;
    fs::create_dir(at("cache")).unwrap();
    copy_templates(&at("cache")).await;
    fs::write(at("containers.conf"), SETTINGS).unwrap();
    let storage = format!("[storage]\ndriver = 'vfs'\ngraphroot = {:?}\nrunroot = {:?}\n", at("graph"), at("run"));
    fs::write(at("storage.conf"), storage).unwrap();
    let in_directory = |mut program: tokio::process::Command| {
        program.env("CONTAINERS_CONF", at("containers.conf")).env("CONTAINERS_STORAGE_CONF", at("storage.conf"));
        program.current_dir(directory.path()).env_remove("http_proxy").env_remove("https_proxy");
        program
    };
    let source = format!("oci:{}:anteroom", layout.display());
    output(in_directory(command("skopeo", &["copy", &source, "containers-storage:localhost/anteroom:latest"]))).await;

    let namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut alone = in_directory(command("unshare", &namespaces));
    alone.args(["bash", "-c", ALONE, "bash", &documented(), AFTERWARDS]);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let run = alone.env("PATH", path).stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let run = timeout(RUN_MAX, run).await.unwrap_or_else(|_| panic!("{}", read(&at("log")))).unwrap();
    let (printed, errors) = (crate::text(&run.stdout), crate::text(&run.stderr));
    assert!(run.status.success(), "{}\n{printed}\n{errors}\n{}", run.status, read(&at("log")));
    assert!(printed.contains("https://anteroom.example/login#login_token="), "{printed}");
    assert!(read(&at("health")).contains("\"version\":"), "{}", read(&at("health")));
    assert!(!read(&at("log")).contains("login_token="), "an engine keeps the output: a link is a secret");
    assert_eq!(read(&at("left")), "", "containers, volumes and images");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

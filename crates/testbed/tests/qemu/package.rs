//! The Debian package in a system of its own, with systemd and without a compiler, Node or npm: installed by apt, run by its unit, with a
//! session on a real machine that survives a restart, a crash, an upgrade and a roll-back. Needs root; elsewhere it says so and passes.

mod root;

use anteroom_testbed::{ApiClient, QEMU_WAIT_TIMEOUT, Qemu, eventually, plain_process::built_program};
use anteroom_wire::{Secret, SessionId, api::SessionStatus};
use root::{Root, run};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Instant,
};
use tokio::process::Command;

/// The versions in docs/install.md, whose commands take the package through its life.
const OLD: &str = "0.1.0";
const NEW: &str = "0.2.0";
/// A user's `sudo` in a system that has none.
const SUDO: &str = "#!/bin/sh\nuser=root\nif [ \"$1\" = -u ]; then user=$2; shift 2; fi\n\
    [ \"$user\" = root ] && exec \"$@\"\nexec setpriv --reuid=\"$user\" --regid=\"$user\" --init-groups \"$@\"\n";
/// The key file that the first start makes, and the systemd credential that it becomes.
const KEY_FILE: &str = "var/lib/anteroom/vault.key";
const CREDENTIAL: &str = "/etc/credstore/anteroom.vault.key";

/// A script of `packaging/` with these arguments.
fn script(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(name));
    command.args(arguments);
    command
}

/// The commands of docs/install.md, block by block.
fn documented() -> [Vec<String>; 3] {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/install.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("```sh in-package\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<Vec<String>> = blocks.map(|block| block.lines().map(str::to_owned).collect()).collect();
    blocks.try_into().expect("three blocks: install and start, upgrade and roll back, remove")
}

/// Runs a documented line where the packages and the image are, as a person who agrees to what apt asks.
async fn run_line(root: &Root, line: &str) -> String {
    eprintln!("$ {line}");
    root.run(&["bash", "-c", &format!("cd /mnt; yes | {{ {line}\n}}")]).await
}

async fn assert_installed(root: &Root, version: &str) {
    let found = root.run(&["dpkg-query", "--show", "--showformat=${Version} ${db:Status-Status}", "anteroom"]).await;
    assert_eq!(found, format!("{version} installed"));
}

/// A session that is open on its desktop.
struct Open {
    api: ApiClient,
    id: SessionId,
    /// Its machine.
    machine: Vec<String>,
}

impl Open {
    async fn start(root: &Root, api: ApiClient) -> Self {
        let id = api.start_session("demo").await.unwrap().session.id;
        api.wait_status(&id, SessionStatus::VmStarted).await.unwrap();
        let open = Self { api, id, machine: machines(root) };
        open.assert_lives(root).await;
        assert_eq!(open.machine.len(), 1, "{:?}", open.machine);
        open
    }

    /// It shows the desktop of its first machine.
    async fn assert_lives(&self, root: &Root) {
        let mut desktop = self.api.connect_desktop(&self.id).await.unwrap();
        let frame = desktop.request_full_frame().await.unwrap();
        assert!(frame.count_colours(2) > 1, "a picture");
        assert_eq!(machines(root), self.machine);
        assert!(!self.api.get_session(&self.id).await.unwrap().status.is_ended());
    }
}

/// Directories of machines.
fn machines(root: &Root) -> Vec<String> {
    let entries = fs::read_dir(root.host_path("var/lib/anteroom/run")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("mac_"));
    names.sort();
    names
}

/// Checks what the package made before there is an image.
async fn check_installed(root: &Root) {
    // AppArmor 4 needs a profile, earlier ones cannot read it.
    let profile = "/etc/apparmor.d/anteroom";
    assert_eq!(root.host_path(&profile[1..]).exists(), root.host_path("etc/apparmor.d/abi/4.0").exists());
    if root.host_path(&profile[1..]).exists() {
        root.run(&["apparmor_parser", "--skip-kernel-load", "--skip-cache", profile]).await;
    }
    assert_eq!(root.run(&["stat", "-c", "%U %a", "/var/lib/anteroom"]).await.trim(), "anteroom 700");
    assert_eq!(root.run(&["stat", "-c", "%U:%G %a", "/etc/anteroom/anteroom.toml"]).await.trim(), "root:anteroom 640");
    assert!(root.run(&["id", "-nG", "anteroom"]).await.split_whitespace().any(|group| group == "kvm"));
    // It is enabled and waits for an image.
    assert_eq!(root.property("UnitFileState").await, "enabled");
    assert_eq!(
        (root.property("ActiveState").await, root.property("ConditionResult").await),
        ("inactive".into(), "no".into())
    );
    let text = root.fail(&["anteroom", "status"]).await;
    assert!(text.contains("/var/lib/anteroom"), "{text}");
}

/// Gives the package an image and a configuration for the test; returns the address on which it will listen.
async fn prepare(root: &Root, fetch: &str) -> SocketAddr {
    let text = root.fail(&["anteroom", "image", "fetch", "/mnt/anteroom-image.tar"]).await;
    assert!(text.contains("belongs to the user with the id"), "{text}");
    run_line(root, fetch).await;
    // So that no machine is booted if the distribution's QEMU is the host's.
    let templates = Qemu::test_cache_dir().unwrap().join("templates");
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--sparse=always"]).arg(templates).arg(root.host_path("var/cache/anteroom/"));
    run(copy).await;
    root.run(&["chown", "--recursive", "anteroom:anteroom", "/var/cache/anteroom/templates"]).await;
    // A port that is free now: it must be the same after a restart.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = root.host_path("etc/anteroom/anteroom.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\nlisten = \"{address}\"\n[machines]\nkind = \"qemu\"\n")).unwrap();
    let drop_in = root.host_path("etc/systemd/system/anteroom.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    let demo = "[Service]\nExecStart=\nExecStart=/usr/bin/anteroom serve --demo\n";
    fs::write(drop_in.join("demo.conf"), demo).unwrap();
    root.run(&["systemctl", "daemon-reload"]).await;
    address
}

/// An operator's client of the service.
async fn operator(root: &Root, address: SocketAddr) -> ApiClient {
    let token = root.run(&["anteroom", "token", "create", "--operator", "test"]).await;
    let link = root.run(&["anteroom", "login-link"]).await;
    let port = format!(":{}", address.port());
    let (origin, _) = link.trim().split_once(&port).unwrap();
    let base_url = format!("{origin}{port}");
    assert!(root.property("StatusText").await.starts_with(&format!("serving {base_url}; ")));
    ApiClient::new(address, base_url, Some(Secret::new(token.trim().to_owned())), QEMU_WAIT_TIMEOUT).unwrap()
}

/// Moves the key file out of the state directory: the service gets it as a systemd credential from its next start on.
async fn give_key_as_credential(root: &Root) {
    root.run(&["install", "-D", "-m", "0600", &format!("/{KEY_FILE}"), CREDENTIAL]).await;
    root.run(&["rm", &format!("/{KEY_FILE}")]).await;
}

/// The service has the key from the service manager, and no other one.
async fn check_key_is_credential(root: &Root) {
    assert!(!root.host_path(KEY_FILE).exists());
    let keys = root.run(&["anteroom", "keys", "list"]).await;
    assert!(keys.contains('1'), "{keys}");
    let text = root.fail(&["anteroom", "keys", "rotate"]).await;
    assert!(text.contains("another program provides them"), "{text}");
    let credential = "/run/credentials/anteroom.service/vault.key";
    // Its owner, or an access list (systemd 255), lets the service read it, and no other user.
    let mode = root.run(&["stat", "-c", "%a", credential]).await;
    assert!(["400", "440"].contains(&mode.trim()), "{mode}");
}

/// The last lines of the first block. The exit code of `doctor` depends on the host.
async fn check_doctor_and_link(root: &Root, lines: &[String]) {
    let [doctor, link] = lines else { panic!("{lines:?}") };
    let checks = run_line(root, &format!("{{ {doctor}\n}} || [ $? = 1 ]")).await;
    assert!(checks.contains("state directory") && checks.contains("running; "), "{checks}");
    assert!(run_line(root, link).await.contains("login_token="), "{link}");
}

/// Takes the package through its life.
async fn live(distribution: &str) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tried: only root boots another system");
        return;
    }
    let began = Instant::now();
    let step = |what: &str| eprintln!("{:>5.1} s  {what}", began.elapsed().as_secs_f32());
    let base = run(script("test_root.sh", &[distribution])).await;
    let shared = tempfile::tempdir_in(Path::new(base.trim()).parent().unwrap()).unwrap();
    step("root directory");
    for version in [OLD, NEW] {
        run(script("build_deb.sh", &[shared.path().to_str().unwrap(), "debug", version])).await;
    }
    step("packages");
    let mut export = Command::new(built_program("anteroom").unwrap());
    export.arg("--cache-dir").arg(Qemu::test_cache_dir().unwrap()).args(["image", "export"]);
    export.arg(shared.path().join("anteroom-image.tar"));
    run(export).await;
    step("image exported");
    let root = Root::boot(Path::new(base.trim()), shared.path()).await;
    step("booted");
    root.run(&["groupadd", "--system", "--force", "kvm"]).await;
    fs::write(root.host_path("usr/bin/sudo"), SUDO).unwrap();
    fs::set_permissions(root.host_path("usr/bin/sudo"), fs::Permissions::from_mode(0o755)).unwrap();

    let [start, upgrade, remove] = documented();
    run_line(&root, &start[0]).await;
    assert_installed(&root, OLD).await;
    check_installed(&root).await;
    step("installed");
    let address = prepare(&root, &start[1]).await;
    step("image fetched");
    run_line(&root, &start[2]).await;
    step("serving");
    check_doctor_and_link(&root, &start[3..]).await;
    let open = Open::start(&root, operator(&root, address).await).await;
    step("desktop of a session");
    let journal = root.run(&["journalctl", "--no-pager", "--unit=anteroom"]).await;
    assert!(journal.contains("Anteroom is listening at") && !journal.contains("login_token="), "a link is a secret");
    let checks = root.output(&["anteroom", "doctor", "--json"]).await;
    assert!(checks.contains("only `anteroom image build` needs them"), "{checks}");

    root.systemctl("reload").await;
    give_key_as_credential(&root).await;
    root.systemctl("restart").await;
    open.assert_lives(&root).await;
    check_key_is_credential(&root).await;
    step("restarted");
    root.run(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "anteroom"]).await;
    let restarted = async || Ok((root.property("NRestarts").await == "1").then_some(()));
    eventually("systemd starts it again", QEMU_WAIT_TIMEOUT, restarted).await.unwrap();
    let active = async || Ok((root.property("ActiveState").await == "active").then_some(()));
    eventually("it serves again", QEMU_WAIT_TIMEOUT, active).await.unwrap();
    open.assert_lives(&root).await;
    step("crashed");
    for (line, version) in upgrade.iter().zip([NEW, OLD]) {
        let before = root.property("MainPID").await;
        run_line(&root, line).await;
        assert_installed(&root, version).await;
        assert_ne!(root.property("MainPID").await, before, "the package restarts the server");
        open.assert_lives(&root).await;
        step(&format!("version {version}"));
    }

    run_line(&root, &remove[0]).await;
    assert!(machines(&root).is_empty(), "the package ends its machines");
    assert!(root.host_path("var/lib/anteroom/anteroom.db").exists() && !root.host_path("usr/bin/anteroom").exists());
    root.run(&["rm", "-r", "/etc/systemd/system/anteroom.service.d", CREDENTIAL]).await;
    run_line(&root, &remove[1]).await;
    let left = root.run(&["find", "/", "-xdev", "-name", "*anteroom*", "-not", "-path", "/proc/*"]).await;
    let left: Vec<&str> = left.lines().filter(|path| !path.starts_with("/mnt/")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(root.fail(&["id", "anteroom"]).await.contains("no such user"));
    step("purged");
}

#[tokio::test]
async fn qemu_package_on_debian_serves_survives_upgrade_and_roll_back_and_a_purge_leaves_nothing() {
    live("debian").await;
}

#[tokio::test]
async fn qemu_package_full_on_ubuntu() {
    live("ubuntu").await;
}

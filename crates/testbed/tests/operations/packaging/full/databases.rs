//! The example of `packaging/cluster`: PostgreSQL with Patroni and etcd on three hosts, one of which is lost with everything on it.

use super::{command, is_root, output, project};
use crate::fixture::Flags;
use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually};
use anteroom_wire::{TimelineKind, api::SessionStatus};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

const NAMES: [&str; 3] = ["db1", "db2", "db3"];
const PASSWORD: &str = "canary-of-the-database";
/// Patroni replaces a primary after 20 s here, 30 s in the example.
const EDITS: [(&str, &str); 3] =
    [("ttl: 30", "ttl: 20"), ("loop_wait: 10", "loop_wait: 2"), ("retry_timeout: 10", "retry_timeout: 3")];
/// Both programs of a host, not as root. They end with the shell, which is process 1 of their namespace and ends with `unshare`.
const HOST: &str = "set -a; . ./etcd.env; set +a; export HOME=$PWD\n\
    as='setpriv --reuid=nobody --regid=nogroup --clear-groups'\n$as etcd & $as patroni patroni.yml & wait";

/// Three hosts, which are addresses of the loopback network.
struct Hosts {
    directory: tempfile::TempDir,
    /// The first three numbers of the addresses, with the point after them.
    network: String,
    processes: Vec<Option<Child>>,
}

impl Hosts {
    async fn start() -> Self {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let network = format!("127.{}.{}.", random[0] | 1, random[1]);
        let directory = tempfile::tempdir().unwrap();
        let mut certificates = command(project("packaging/cluster/certificates.sh"), &[]);
        certificates.arg(directory.path());
        // A client's address on the loopback network.
        certificates.args([1, 2, 3].map(|number| format!("db{number}={network}1{number},127.0.0.1")));
        output(certificates).await;
        let mut hosts = Self { directory, network, processes: vec![] };
        for number in 0..NAMES.len() {
            hosts.configure(number);
        }
        output(command("chown", &["-R", "nobody:nogroup", hosts.directory.path().to_str().unwrap()])).await;
        fs::set_permissions(hosts.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in NAMES {
            let mut host = Command::new("unshare");
            host.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", HOST]);
            let log = fs::File::create(hosts.path(name).join("log")).unwrap();
            host.current_dir(hosts.path(name)).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            hosts.processes.push(Some(host.kill_on_drop(true).spawn().unwrap()));
        }
        hosts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn address(&self, number: usize) -> String {
        format!("{}1{}", self.network, number + 1)
    }

    /// Writes the files of the example for a host: its name and addresses, and directories of the test.
    fn configure(&self, number: usize) {
        let (name, own) = (NAMES[number], self.path(NAMES[number]));
        let at = |path: &str| own.join(path).display().to_string();
        let binaries = glob_one("/usr/lib/postgresql", "bin");
        for file in ["etcd.env", "patroni.yml"] {
            let mut text = fs::read_to_string(project("packaging/cluster").join(file)).unwrap();
            for (old, new) in EDITS.iter().filter(|_| file == "patroni.yml") {
                assert!(text.contains(old), "{old}");
                text = text.replace(old, new);
            }
            let of_host = |line: &str| {
                let list = line.starts_with("ETCD_INITIAL_CLUSTER=") || line.contains("hosts:");
                if list {
                    line.to_owned()
                } else {
                    line.replace("192.0.2.11", &self.address(number)).replace("db1", name)
                }
            };
            let text: String = text.lines().map(of_host).map(|line| line + "\n").collect();
            let text = text.replace("192.0.2.0/24", "127.0.0.0/8").replace("192.0.2.", &self.network);
            let text = text.replace("/etc/ssl/anteroom", &at("")).replace("/var/lib/etcd/anteroom", &at("etcd"));
            let text = text.replace("/var/lib/postgresql/15/anteroom", &at("data")).replace("/run/postgresql", &at(""));
            let text = text.replace("/var/lib/postgresql/", &at("")).replace("/usr/lib/postgresql/15/bin", &binaries);
            fs::write(own.join(file), text).unwrap();
        }
    }

    /// The number of the primary once it has a standby that must confirm each write.
    async fn primary(&self) -> Option<usize> {
        for number in 0..NAMES.len() {
            let mut ask = Command::new("curl");
            ask.args(["--silent", "--max-time", "2", "--cacert"]).arg(self.directory.path().join("ca.pem"));
            ask.arg(format!("https://{}:8008/cluster", self.address(number)));
            let answer = ask.output().await.unwrap().stdout;
            let Ok(cluster) = serde_json::from_slice::<Value>(&answer) else { continue };
            let members = cluster["members"].as_array().unwrap();
            let runs = |member: &&Value, role: &str| member["role"] == role && member["state"] == "running";
            let leader = members.iter().find(|member| runs(member, "leader"))?;
            members.iter().find(|member| runs(member, "sync_standby"))?;
            return NAMES.iter().position(|name| leader["name"] == *name);
        }
        None
    }

    async fn wait_primary(&self) -> usize {
        let found = eventually("a primary with a standby", WAIT_MAX * 4, async || Ok(self.primary().await)).await;
        found.unwrap_or_else(|error| {
            panic!("{error}\n{}", fs::read_to_string(self.path("db1").join("log")).unwrap());
        })
    }

    /// Creates the user and the database of docs/postgresql.md.
    async fn create_database(&self, primary: usize) {
        let ca = self.directory.path().join("ca.pem");
        let target = format!(
            "host={} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
            self.address(primary),
            ca.display()
        );
        let role = format!("CREATE ROLE anteroom LOGIN PASSWORD '{PASSWORD}'");
        let database = "CREATE DATABASE anteroom OWNER anteroom ENCODING UTF8 TEMPLATE template0";
        let mut create = command("psql", &["--no-psqlrc", "--quiet", "--command", &role, "--command", database]);
        create.arg(target).env("PGPASSWORD", "replace-me-1");
        output(create).await;
    }

    /// Ends every process of a host at once.
    async fn kill(&mut self, number: usize) {
        self.processes[number].take().unwrap().kill().await.unwrap();
    }
}

/// The only directory `DIRECTORY/*/NAME`, or the last one.
fn glob_one(directory: &str, name: &str) -> String {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join(name)).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found.pop().expect("./test installs PostgreSQL").display().to_string()
}

fn settings(hosts: &Hosts, password: &Path) -> String {
    let addresses = [0, 1, 2].map(|number| hosts.address(number)).join(",");
    let ca = hosts.directory.path().join("ca.pem");
    format!(
        "[database]\nurl = 'postgresql://anteroom@{addresses}/anteroom?sslmode=verify-full&sslrootcert={}'\npassword_file = {password:?}\n",
        ca.display()
    )
}

#[tokio::test]
async fn three_databases_of_the_example_survive_the_loss_of_the_primary_and_no_session_ends() {
    if !is_root() {
        return;
    }
    let mut hosts = Hosts::start().await;
    let primary = hosts.wait_primary().await;
    hosts.create_database(primary).await;
    let password = hosts.directory.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let flags = Flags::new();
    let steps = [
        Step::print_line("Waiting"),
        flags.wait_step("go"),
        Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"kept\"}"),
    ];
    let provider = ScriptedProvider::new("scripted", Script::new(steps));
    let config = TestConfig::with_provider(provider).with_settings(&settings(&hosts, &password));
    let server = TestServer::start(config).await.unwrap();
    let api = server.backend_client().unwrap();
    let id = api.start_session("scripted").await.unwrap().session.id;
    api.wait_entry(&id, TimelineKind::CliStarted).await.unwrap();
    let machines = server.list_machines();
    let mut viewer = api.connect_desktop(&id).await.unwrap();

    hosts.kill(primary).await;
    let lost = Instant::now();
    // The desktop goes on; the delivery waits in its machine.
    viewer.request_full_frame().await.unwrap();
    fs::write(flags.path("go"), "").unwrap();
    let writes = async || Ok((server.anonymous_client()?.get("/health").await?.status == 200).then_some(()));
    let refuses = async || Ok((server.anonymous_client()?.get("/health").await?.status == 503).then_some(()));
    eventually("the server notices", Duration::from_secs(20), refuses).await.unwrap();
    eventually("another host is the primary", Duration::from_secs(90), writes).await.unwrap();
    eprintln!("{:.1} s without writes", lost.elapsed().as_secs_f32());
    let view = api.wait_status(&id, SessionStatus::Completed).await.unwrap();
    let lease = api.lease_credential(&view.credential.unwrap().id).await.unwrap();
    assert_eq!(lease.files[0].content.expose(), b"{\"token\": \"kept\"}");
    assert_eq!(machines.len(), 1);
    assert_ne!(hosts.wait_primary().await, primary, "the third host confirms writes now");
    let second = api.start_session("scripted").await.unwrap().session.id;
    api.cancel_session(&second).await.unwrap();
    server.stop_and_check_leaks().await.unwrap();
}

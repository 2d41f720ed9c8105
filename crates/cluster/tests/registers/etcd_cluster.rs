//! etcd for one test: one member or several, which can be frozen and ended.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long etcd may take to start on a busy host.
const START_MAX: Duration = Duration::from_secs(60);

pub(crate) struct EtcdCluster {
    directory: tempfile::TempDir,
    members: Vec<EtcdMember>,
}

struct EtcdMember {
    process: Child,
    client: SocketAddr,
}

impl EtcdCluster {
    /// Starts a cluster of so many members, and waits until it answers.
    #[allow(dead_code, reason = "not all users of this file need it")]
    pub(crate) async fn start(members: usize) -> Self {
        let addresses = (0..members).map(|_| (free_address(), free_address())).collect();
        Self::start_at(Vec::new(), addresses).await
    }

    /// Starts a cluster of members with these addresses for clients and for each other, and with these words before each command.
    #[expect(clippy::disallowed_methods, reason = "the test ends the processes in any case")]
    pub(crate) async fn start_at(prefix: Vec<String>, addresses: Vec<(SocketAddr, SocketAddr)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let named = addresses.iter().enumerate().map(|(number, (_, peer))| format!("m{number}=http://{peer}"));
        let initial = named.collect::<Vec<_>>().join(",");
        let start = |(number, (client, peer)): (usize, &(SocketAddr, SocketAddr))| {
            let name = format!("m{number}");
            let log = File::create(directory.path().join(format!("{name}.log"))).unwrap();
            let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
            // It ends with the test, also if that is killed.
            let mut words = prefix.iter().map(String::as_str).chain(["setpriv", "--pdeathsig", "KILL", "etcd"]);
            let mut command = Command::new(words.next().unwrap());
            command.args(words).args(["--name", &name, "--data-dir"]).arg(directory.path().join(&name));
            command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
            command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
            command.args(["--initial-cluster", &initial]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let process = command.spawn().expect("etcd can be started; its package is etcd-server");
            EtcdMember { process, client: *client }
        };
        let members = addresses.iter().enumerate().map(start).collect();
        let cluster = Self { directory, members };
        let give_up = Instant::now() + START_MAX;
        while cluster.members.iter().any(|member| leader_of(member.client).is_none()) {
            assert!(Instant::now() < give_up, "etcd does not start: {}", cluster.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster
    }

    fn log(&self) -> String {
        let read = |number| std::fs::read_to_string(self.directory.path().join(format!("m{number}.log"))).unwrap();
        (0..self.members.len()).map(read).collect()
    }

    /// The members, as in the configuration.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}", member.client)).collect()
    }

    /// The number of the leader.
    pub(crate) fn leader(&self) -> usize {
        let leads = |member: &EtcdMember| leader_of(member.client).is_some_and(|(me, leader)| me == leader);
        self.members.iter().position(leads).expect("a cluster has a leader")
    }

    /// Sends a signal to a member.
    pub(crate) fn signal(&self, number: usize, signal: Signal) {
        let id = self.members[number].process.id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// The directory of all that the members write.
    #[allow(dead_code, reason = "one of the two users of this file needs it")]
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The answer of the first member; `None`: there is none.
    #[allow(dead_code, reason = "one of the two users of this file needs it")]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Option<Value> {
        post(self.members[0].client, path, body)
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// An address that the kernel has chosen and nothing uses.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The ids of a member and of its leader.
fn leader_of(member: SocketAddr) -> Option<(String, String)> {
    let status = post(member, "/v3/maintenance/status", &Value::Object(serde_json::Map::new()))?;
    let text = |value: &Value| value.as_str().filter(|id| *id != "0").map(str::to_owned);
    Some((text(&status["header"]["member_id"])?, text(&status["leader"])?))
}

fn post(member: SocketAddr, path: &str, body: &Value) -> Option<Value> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&member, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let body = answer.split_once("\r\n\r\n")?.1;
    serde_json::from_str(body.get(body.find('{')?..=body.rfind('}')?)?).ok()
}

//! A network for one test: a bridge in the test's network namespace, and a network namespace of its own for each host and each database.
//!
//! ```text
//!  test 10.78.0.1 ─ bridge ┬─ host 1  10.78.0.11
//!                          ├─ host 2  10.78.0.12
//!                          ├─ PostgreSQL 10.78.0.20
//!                          └─ etcd       10.78.0.21
//! ```
//!
//! The test must be root in a network namespace that nothing else uses. A link is cut at the bridge. One direction between two places is cut by a
//! wrong hardware address: the packets are sent and no host accepts them, which needs no packet filter.

use anyhow::{Context, ensure};
use std::{
    io::Read,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A hardware address that no place has.
const NOBODY: &str = "02:00:00:00:00:07";
/// The bridge.
const BRIDGE: &str = "lab";
/// The name of a place's end of its cable, in its namespace.
const INSIDE: &str = "lan";

/// The bridge.
#[derive(Debug)]
pub struct Network;

/// A network namespace with one cable to the bridge. It ends with its processes once it is dropped.
#[derive(Debug)]
pub struct Place {
    holder: Child,
    address: Ipv4Addr,
    /// The end of its cable at the bridge.
    port: String,
}

impl Network {
    /// The address of the test.
    pub const TEST: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

    /// Makes the bridge.
    ///
    /// # Errors
    /// The test may not configure its network.
    pub fn new() -> anyhow::Result<Self> {
        ip("link set lo up")?;
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("addr add {}/24 dev {BRIDGE}", Self::TEST))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(Self)
    }

    /// Adds a place with the address `10.78.0.NUMBER`.
    ///
    /// # Errors
    /// Its namespace or its cable cannot be made.
    #[allow(clippy::disallowed_methods, reason = "holds a namespace")]
    pub fn add(&self, number: u8) -> anyhow::Result<Place> {
        let mut holder = Command::new("unshare");
        // It ends when its input is closed. The line says that the namespace exists.
        holder.args(["--net", "sh", "-c", "echo ready; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().context("unshare")?;
        holder.stdout.as_mut().context("its output")?.read_exact(&mut [0; 6])?;
        let place = Place { holder, address: Ipv4Addr::new(10, 78, 0, number), port: format!("port{number}") };
        let (port, namespace) = (&place.port, place.holder.id());
        ip(&format!("link add {port} type veth peer name {INSIDE} netns {namespace}"))?;
        ip(&format!("link set {port} master {BRIDGE} up"))?;
        place.ip("link set lo up")?;
        place.ip(&format!("addr add {}/24 dev {INSIDE}", place.address))?;
        place.ip(&format!("link set {INSIDE} up"))?;
        Ok(place)
    }
}

impl Place {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The file that names its network namespace.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// The words before a command that runs there.
    pub fn prefix(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.namespace().display()), "--".to_owned()]
    }

    /// Connects or cuts its cable, in both directions.
    ///
    /// # Errors
    /// The link cannot be changed.
    pub fn set_link(&self, is_up: bool) -> anyhow::Result<()> {
        ip(&format!("link set {} {}", self.port, if is_up { "up" } else { "down" }))
    }

    /// Loses all that it sends to this address from now on, or nothing more.
    ///
    /// # Errors
    /// The neighbour cannot be changed.
    pub fn lose_to(&self, other: Ipv4Addr, loses: bool) -> anyhow::Result<()> {
        let change = if loses {
            format!("neigh replace {other} lladdr {NOBODY} dev {INSIDE} nud permanent")
        } else {
            format!("neigh del {other} dev {INSIDE}")
        };
        self.ip(&change)
    }

    fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let prefix = self.prefix();
        run(prefix.iter().map(String::as_str).chain(["ip"]).chain(arguments.split(' ')))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ip(arguments: &str) -> anyhow::Result<()> {
    run(["ip"].into_iter().chain(arguments.split(' ')))
}

#[allow(clippy::disallowed_methods, reason = "configures a namespace")]
fn run<'a>(mut words: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let mut command = Command::new(words.next().context("a program")?);
    command.args(words).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

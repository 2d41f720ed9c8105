//! A proxy of Debian between the egress gate and the issuers. Each passes its connections to a [`NameProxy`], which knows where the
//! issuers of the test listen.
//!
//! ```text
//!  machine ─▶ egress gate ─▶ tinyproxy, Dante or mitmproxy ─▶ NameProxy ─▶ issuer
//! ```

use crate::{TestCa, eventually, native_cli::NameProxy, with_hosts};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const START_MAX: Duration = Duration::from_secs(60);

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// tinyproxy: `CONNECT`.
    Http,
    /// Dante: SOCKS5. It resolves the names by itself.
    Socks,
    /// mitmproxy: `CONNECT`, and certificates of its own authority for every host.
    Inspecting,
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    /// For `egress.proxy.url`.
    pub url: String,
    /// The authority whose certificates machines see behind it.
    pub ca_file: PathBuf,
    names: NameProxy,
    _process: Child,
    _dir: tempfile::TempDir,
}

impl ForwardProxy {
    /// Starts it. `hosts`: `name:port` and the address of its issuer, whose certificates are of `ca`.
    ///
    /// # Errors
    /// The proxy is not installed, or does not accept connections.
    pub async fn start(kind: ProxyKind, ca: &TestCa, hosts: &BTreeMap<String, SocketAddr>) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let issuers_ca = dir.path().join("issuers.pem");
        fs::write(&issuers_ca, ca.pem())?;
        let (hosts_file, by_name_and_address) = with_loopback_addresses(hosts)?;
        let names = NameProxy::start(by_name_and_address).await?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = match kind {
            ProxyKind::Http => tinyproxy(dir.path(), port, names.address())?,
            ProxyKind::Socks => dante(dir.path(), port, names.address(), &hosts_file)?,
            ProxyKind::Inspecting => mitmproxy(dir.path(), port, names.address(), &issuers_ca),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process =
            command.spawn().context("the proxy is installed (Debian: tinyproxy-bin, dante-server, mitmproxy)")?;
        let accepts = async || Ok(TcpStream::connect(("127.0.0.1", port)).await.ok());
        eventually("the proxy accepts connections", START_MAX, accepts).await?;
        let scheme = if kind == ProxyKind::Socks { "socks5" } else { "http" };
        let ca_file = if kind == ProxyKind::Inspecting { dir.path().join("mitmproxy-ca-cert.pem") } else { issuers_ca };
        Ok(Self { url: format!("{scheme}://127.0.0.1:{port}"), ca_file, names, _process: process, _dir: dir })
    }

    /// The targets of its connections.
    pub fn targets(&self) -> Vec<String> {
        self.names.requested_targets()
    }
}

/// An address of this host for each name, as lines of `/etc/hosts`; and the issuers by name and by that address.
fn with_loopback_addresses(
    hosts: &BTreeMap<String, SocketAddr>,
) -> anyhow::Result<(String, BTreeMap<String, SocketAddr>)> {
    let mut file = "127.0.0.1 localhost\n".to_owned();
    let mut all = hosts.clone();
    for (number, (host, issuer)) in hosts.iter().enumerate() {
        let (name, port) = host.rsplit_once(':').context("name:port")?;
        let address = format!("127.1.0.{}", number + 1);
        file.push_str(&format!("{address} {name}\n"));
        all.insert(format!("{address}:{port}"), *issuer);
    }
    Ok((file, all))
}

fn tinyproxy(dir: &Path, port: u16, next: SocketAddr) -> io::Result<Command> {
    let config = dir.join("tinyproxy.conf");
    let text =
        format!("Port {port}\nListen 127.0.0.1\nTimeout 300\nMaxClients 100\nLogLevel Error\nUpstream http {next}\n");
    fs::write(&config, text)?;
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(config);
    Ok(command)
}

#[allow(clippy::disallowed_methods, reason = "a test asks for its user's name")]
fn dante(dir: &Path, port: u16, next: SocketAddr, hosts: &str) -> anyhow::Result<Command> {
    let user = std::process::Command::new("id").arg("-un").output()?.stdout;
    let user = String::from_utf8(user)?;
    let config = dir.join("danted.conf");
    let text = format!(
        "logoutput: {}\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\nclientmethod: none\nsocksmethod: none\n\
         user.unprivileged: {user}client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0\n protocol: tcp }}\n\
         route {{\n from: 0.0.0.0/0 to: 127.0.0.0/8 via: {} port = {}\n proxyprotocol: http\n protocol: tcp\n command: connect\n}}\n",
        dir.join("danted.log").display(),
        next.ip(),
        next.port(),
    );
    fs::write(&config, text)?;
    let mut command = with_hosts(dir, hosts, Path::new("danted"))?;
    command.args(["-N", "1", "-f"]).arg(config);
    Ok(command)
}

fn mitmproxy(dir: &Path, port: u16, next: SocketAddr, issuers_ca: &Path) -> Command {
    let mut command = Command::new("mitmdump");
    command.args(["-q", "--listen-host", "127.0.0.1", "--listen-port", &port.to_string()]);
    command.args(["--mode", &format!("upstream:http://{next}")]);
    command.args(["--set", &format!("confdir={}", dir.display())]);
    command.args(["--set", &format!("ssl_verify_upstream_trusted_ca={}", issuers_ca.display())]);
    command
}

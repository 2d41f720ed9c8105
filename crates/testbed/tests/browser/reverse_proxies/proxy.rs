//! A reverse proxy of Debian with TLS, run with a file of `packaging/proxies`.

use anteroom_testbed::{TestCa, WAIT_MAX, eventually};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::PublicKeyData;
use sha2::{Digest, Sha256};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// The host name of the examples, and the one that replaces it: it resolves to this host everywhere.
const NAME_OF_EXAMPLES: &str = "anteroom.example";
const NAME: &str = "localhost";

/// Which file, and so which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    NginxAuthRequest,
    Caddy,
    Haproxy,
}

impl Kind {
    fn example(self) -> String {
        let name = match self {
            Self::Nginx => "nginx.conf",
            Self::NginxAuthRequest => "nginx-auth-request.conf",
            Self::Caddy => "Caddyfile",
            Self::Haproxy => "haproxy.cfg",
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/proxies").join(name);
        fs::read_to_string(path).unwrap()
    }
}

/// The proxy's place: its port and its certificate. The server's `public_url` needs them before the proxy can start.
#[derive(Debug)]
pub(crate) struct Site {
    dir: tempfile::TempDir,
    port: u16,
    /// The hash of the certificate's key, as Chromium accepts it: `--ignore-certificate-errors-spki-list`.
    pub(crate) key_hash: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new().unwrap();
        let (certificate, key) = ca.issue(&[NAME], false).unwrap();
        fs::write(dir.path().join("site.pem"), certificate.pem()).unwrap();
        fs::write(dir.path().join("site.key"), key.serialize_pem()).unwrap();
        fs::write(dir.path().join("both.pem"), certificate.pem() + &key.serialize_pem()).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        // The proxies cannot say which port the system chose.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port, key_hash: STANDARD.encode(Sha256::digest(key.subject_public_key_info())) }
    }

    pub(crate) fn public_url(&self) -> String {
        format!("https://{NAME}:{}", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the proxy in front of `server`. `edits`: texts of the example's file that are replaced; `sign_in`: the service behind
    /// `auth_request`.
    pub(crate) async fn start(
        &self,
        kind: Kind,
        server: SocketAddr,
        sign_in: Option<SocketAddr>,
        edits: &[(&str, &str)],
    ) -> Proxy {
        let mut text = kind.example();
        for (old, new) in edits {
            assert!(text.contains(old), "the example has no {old:?}");
            text = text.replace(old, new);
        }
        let path = |name: &str| self.path(name).display().to_string();
        text = text.replace(NAME_OF_EXAMPLES, NAME);
        text = text.replace("/etc/ssl/anteroom.pem", &path("site.pem"));
        text = text.replace("/etc/ssl/anteroom.key", &path("site.key"));
        text = text.replace("/etc/haproxy/anteroom.pem", &path("both.pem"));
        text = text.replace("127.0.0.1:7060", &server.to_string());
        if let Some(sign_in) = sign_in {
            text = text.replace("127.0.0.1:4180", &sign_in.to_string());
        }
        let mut command = match kind {
            Kind::Nginx | Kind::NginxAuthRequest => self.nginx(&text),
            Kind::Caddy => self.caddy(&text),
            Kind::Haproxy => self.haproxy(&text),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().expect("the proxy is installed (Debian: nginx, caddy, haproxy)");
        let accepts = async || Ok(TcpStream::connect(("127.0.0.1", self.port)).await.ok());
        eventually("the proxy accepts connections", WAIT_MAX, accepts).await.unwrap();
        Proxy { process }
    }

    fn nginx(&self, site: &str) -> Command {
        let dir = self.dir.path().display();
        let site = site.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{} ssl;", self.port));
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
            .concat();
        // One process: it ends with its process id.
        let main = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log stderr error;\nevents {{}}\n\
             http {{\naccess_log {dir}/access.log;\n{temporary}{site}\n}}\n"
        );
        let config = self.path("nginx.conf");
        fs::write(&config, main).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(config).arg("-p").arg(self.dir.path());
        command
    }

    fn caddy(&self, site: &str) -> Command {
        let site = site.replace(&format!("{NAME} {{"), &format!("https://{NAME}:{} {{\n    bind 127.0.0.1", self.port));
        let global = "{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n}\n";
        let config = self.path("Caddyfile");
        fs::write(&config, format!("{global}{site}")).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        command.env("HOME", self.dir.path()).env("XDG_DATA_HOME", self.dir.path()).stderr(Stdio::null());
        command
    }

    fn haproxy(&self, site: &str) -> Command {
        let config = self.path("haproxy.cfg");
        fs::write(&config, site.replace("bind :443 ", &format!("bind 127.0.0.1:{} ", self.port))).unwrap();
        // In the foreground, one process.
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(config);
        command
    }

    /// The requests that nginx has logged.
    pub(crate) fn logged_requests(&self) -> String {
        fs::read_to_string(self.path("access.log")).unwrap_or_default()
    }
}

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Child,
}

impl Proxy {
    pub(crate) async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }
}

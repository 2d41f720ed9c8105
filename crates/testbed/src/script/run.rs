//! Runs a script.

use super::{Script, Step, WriteMode};
use crate::eventually;
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// The longest wait for the proxy's response, milliseconds.
const PROXY_MS_MAX: u64 = 30_000;

/// Runs the script's steps and returns the exit code.
///
/// # Errors
/// A step fails, for example because a file cannot be written or the output is closed.
pub async fn run_script(script: Script) -> anyhow::Result<u8> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut tool = Tool { home, line: String::new(), input: BufReader::new(tokio::io::stdin()) };
    for step in script.steps {
        if let Some(code) = tool.step(step).await? {
            return Ok(code);
        }
    }
    Ok(0)
}

struct Tool {
    home: PathBuf,
    line: String,
    input: BufReader<Stdin>,
}

impl Tool {
    /// Runs one step; `Some`: the tool exits with this code.
    async fn step(&mut self, step: Step) -> anyhow::Result<Option<u8>> {
        match step {
            Step::Print { text } => print(&self.filled(&text))?,
            Step::OpenUrlWithBrowser { url } => open(&self.filled(&url)).await?,
            Step::ReadLine => {
                self.line.clear();
                self.input.read_line(&mut self.line).await?;
                self.line.truncate(self.line.trim_end().len());
            }
            Step::QueryCursor { ms_max } => {
                return Ok(self.cursor_query_fails(Duration::from_millis(ms_max)).await?.then_some(7));
            }
            Step::RequireTerminal => {
                let terminal = rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout());
                return Ok((!terminal).then_some(8));
            }
            Step::WaitForFile { path, ms_max } => {
                let path = self.home.join(path);
                let exists = async || Ok(path.exists().then_some(()));
                if eventually("the file exists", Duration::from_millis(ms_max), exists).await.is_err() {
                    return Ok(Some(9));
                }
            }
            Step::Pause { ms } => sleep(Duration::from_millis(ms)).await,
            Step::WriteFile { path, content, mode } => {
                write(&self.home.join(path), &self.filled(&content), mode).await?
            }
            Step::RemoveFile { path } => fs::remove_file(self.home.join(path))?,
            Step::ProxyConnect { authority } => {
                let status = connect(&authority).await.unwrap_or_else(|error| format!("{error:#}"));
                print(&format!("CONNECT {authority}: {status}\n"))?;
            }
            Step::ProxyConnectUntil { authority, path } => connect_until(&authority, &self.home.join(path)).await?,
            Step::TlsGet { authority } => return print_tls_answer(&authority).await,
            Step::HttpGet { url } => {
                let status = match reqwest::get(&url).await {
                    Ok(answer) => {
                        let status = answer.status().as_u16().to_string();
                        answer.bytes().await.map_or_else(|error| format!("{status}, then {error}"), |_| status.clone())
                    }
                    Err(error) => format!("{error}"),
                };
                print(&format!("GET {url}: {status}\n"))?;
            }
            Step::HttpGetOverSocket { socket, path } => {
                let status = get_over_socket(&socket, &path).await.unwrap_or_else(|error| format!("{error:#}"));
                print(&format!("GET {path}: {status}\n"))?;
            }
            Step::ExpectFile { path, output } => {
                if !self.home.join(path).exists() {
                    return Ok(Some(1));
                }
                print(&format!("{output}\n"))?;
            }
            Step::Exit { code } => return Ok(Some(code)),
        }
        Ok(None)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{line}", &self.line)
    }

    /// Requests the cursor position; `true`: the terminal did not respond within `limit`.
    async fn cursor_query_fails(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &raw)?;
        print("\u{1b}[6n")?;
        let answered = timeout(limit, self.input.read_until(b'R', &mut Vec::new())).await;
        rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, &before)?;
        Ok(answered.is_err())
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

async fn open(url: &str) -> anyhow::Result<()> {
    let browser = std::env::var("BROWSER")?;
    let status = tokio::process::Command::new(browser).arg(url).status().await?;
    if !status.success() {
        print("the browser could not be opened\n")?;
    }
    Ok(())
}

async fn write(path: &Path, content: &str, mode: WriteMode) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let create = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        io::Result::Ok(file)
    };
    match mode {
        WriteMode::Truncate => create(path)?.write_all(content.as_bytes())?,
        WriteMode::InHalves { wait_ms } => {
            let (first, second) = content.as_bytes().split_at(content.len() / 2);
            let mut file = create(path)?;
            file.write_all(first)?;
            sleep(Duration::from_millis(wait_ms)).await;
            file.write_all(second)?;
        }
        WriteMode::Rename => {
            let mut temporary = path.as_os_str().to_owned();
            temporary.push(".tmp");
            create(Path::new(&temporary))?.write_all(content.as_bytes())?;
            fs::rename(&temporary, path)?;
        }
    }
    Ok(())
}

/// The status of the response, and the code of its problem if it has one.
async fn get_over_socket(socket: &Path, path: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder().unix_socket(socket.to_owned()).no_proxy().build()?;
    let response = client.get(format!("http://localhost{path}")).send().await?;
    let status = response.status().as_u16();
    let body: serde_json::Value = response.json().await?;
    Ok(body["code"].as_str().map_or_else(|| status.to_string(), |code| format!("{status} {code}")))
}

/// The proxy's status line for a `CONNECT`.
async fn connect(authority: &str) -> anyhow::Result<String> {
    let status_line = async { anyhow::Ok(open_tunnel(authority).await?.1) };
    timeout(Duration::from_millis(PROXY_MS_MAX), status_line).await?
}

/// Requests connections until the file exists.
async fn connect_until(authority: &str, path: &Path) -> anyhow::Result<()> {
    let (mut opened, mut requested, mut other) = (0, 0, None);
    while !path.exists() {
        let status = connect(authority).await.unwrap_or_else(|error| format!("{error:#}"));
        requested += 1;
        if status.contains(" 200 ") {
            opened += 1;
        } else {
            other = other.or(Some(status));
        }
        sleep(Duration::from_millis(10)).await;
    }
    print(&format!("CONNECTED {authority}: {opened} of {requested} {}\n", other.unwrap_or_default()))?;
    Ok(())
}

/// The stream after the proxy's answer to a `CONNECT`, and its status line.
async fn open_tunnel(authority: &str) -> anyhow::Result<(BufReader<TcpStream>, String)> {
    let proxy = std::env::var("HTTPS_PROXY")?;
    let proxy = proxy.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = BufReader::new(TcpStream::connect(proxy).await?);
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut status = String::new();
    (&mut stream).take(1024).read_line(&mut status).await?;
    Ok((stream, status.trim_end().to_owned()))
}

/// Prints what a request over TLS got; the exit code of one that failed.
async fn print_tls_answer(authority: &str) -> anyhow::Result<Option<u8>> {
    let answer = get_over_tls(authority).await;
    let exit = answer.is_err().then_some(1);
    let text = answer.unwrap_or_else(|error| format!("{error:#}"));
    print(&format!("TLS {authority}: {text}\n"))?;
    Ok(exit)
}

/// The status line of the answer to `GET /` over TLS.
async fn get_over_tls(authority: &str) -> anyhow::Result<String> {
    let request = async {
        let (mut stream, status) = open_tunnel(authority).await?;
        anyhow::ensure!(status.contains(" 200"), "{status}");
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            anyhow::ensure!(stream.read_line(&mut line).await? > 0, "the proxy closed the connection");
        }
        let mut roots = RootCertStore::empty();
        // Heeds SSL_CERT_FILE.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let mut stream = BufReader::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?);
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        line.clear();
        stream.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    };
    timeout(Duration::from_millis(PROXY_MS_MAX), request).await?
}

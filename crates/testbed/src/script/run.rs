//! The tool itself.

use super::{Script, Step, Way};
use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How long the proxy may take to answer.
const PROXY_MS_MAX: u64 = 30_000;

/// Does what the script says; the exit code.
///
/// # Errors
/// What the script asks for cannot be done: a file that cannot be written, an output that is gone.
pub async fn run(script: Script) -> anyhow::Result<u8> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let mut tool = ScriptedTool { home, line: String::new(), input: BufReader::new(tokio::io::stdin()) };
    for step in script.steps {
        if let Some(code) = tool.step(step).await? {
            return Ok(code);
        }
    }
    Ok(0)
}

struct ScriptedTool {
    home: PathBuf,
    line: String,
    input: BufReader<Stdin>,
}

impl ScriptedTool {
    /// Does one step; `Some`: the tool ends with this code.
    async fn step(&mut self, step: Step) -> anyhow::Result<Option<u8>> {
        match step {
            Step::Print { text } => print(&self.filled(&text))?,
            Step::Browser { url } => open(&self.filled(&url)).await?,
            Step::Read => {
                self.line.clear();
                self.input.read_line(&mut self.line).await?;
                self.line.truncate(self.line.trim_end().len());
            }
            Step::AskCursor { ms_max } => {
                return Ok(self.ask_cursor(Duration::from_millis(ms_max)).await?.then_some(7));
            }
            Step::NeedTerminal => {
                let terminal = rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout());
                return Ok((!terminal).then_some(8));
            }
            Step::WaitFor { path, ms_max } => {
                let (path, until) = (self.home.join(path), Instant::now() + Duration::from_millis(ms_max));
                while !path.exists() {
                    if Instant::now() >= until {
                        return Ok(Some(9));
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Step::Pause { ms } => sleep(Duration::from_millis(ms)).await,
            Step::Write { path, content, how } => write(&self.home.join(path), &self.filled(&content), how).await?,
            Step::Remove { path } => fs::remove_file(self.home.join(path))?,
            Step::Connect { authority } => {
                let status = connect(&authority).await.unwrap_or_else(|error| format!("{error:#}"));
                print(&format!("CONNECT {authority}: {status}\n"))?;
            }
            Step::Get { url } => {
                let status = match reqwest::get(&url).await {
                    Ok(answer) => answer.status().as_u16().to_string(),
                    Err(error) => format!("{error}"),
                };
                print(&format!("GET {url}: {status}\n"))?;
            }
            Step::ExpectFile { path, says } => {
                if !self.home.join(path).exists() {
                    return Ok(Some(1));
                }
                print(&format!("{says}\n"))?;
            }
            Step::Exit { code } => return Ok(Some(code)),
        }
        Ok(None)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{line}", &self.line)
    }

    /// Whether the terminal stayed silent.
    async fn ask_cursor(&mut self, limit: Duration) -> anyhow::Result<bool> {
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

async fn write(path: &Path, content: &str, how: Way) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let create = |path: &Path| {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        io::Result::Ok(file)
    };
    match how {
        Way::Whole => create(path)?.write_all(content.as_bytes())?,
        Way::Halves { wait_ms } => {
            let (first, second) = content.as_bytes().split_at(content.len() / 2);
            let mut file = create(path)?;
            file.write_all(first)?;
            sleep(Duration::from_millis(wait_ms)).await;
            file.write_all(second)?;
        }
        Way::Rename => {
            let mut fresh = path.as_os_str().to_owned();
            fresh.push(".tmp");
            create(Path::new(&fresh))?.write_all(content.as_bytes())?;
            fs::rename(&fresh, path)?;
        }
    }
    Ok(())
}

/// The proxy's status line for a `CONNECT`.
async fn connect(authority: &str) -> anyhow::Result<String> {
    let proxy = std::env::var("HTTPS_PROXY")?;
    let proxy = proxy.trim_start_matches("http://").trim_end_matches('/');
    let asked = async {
        let mut stream = TcpStream::connect(proxy).await?;
        stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await?;
        let mut status = String::new();
        BufReader::new(stream).take(1024).read_line(&mut status).await?;
        anyhow::Ok(status.trim_end().to_owned())
    };
    timeout(Duration::from_millis(PROXY_MS_MAX), asked).await?
}

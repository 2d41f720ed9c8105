//! Records a fixture: runs a method's command in a terminal, keeps every screen that has come to rest, and writes them with what the
//! descriptor's rules find on each. A person answers the tool, in another terminal, by the `tmux` command that is printed.
//!
//! ```text
//! cargo run -p anteroom-testbed --example record_screens -- opencode anthropic --bin ~/opencode/bin --name anthropic --told "A key."
//! ```
//!
//! `--direct`: the tool uses this host's network (else nothing answers it); `--small`: 80x24 instead of 160x45; `--key FILE`: what a
//! method with `key_entry` reads. The file is `providers/fixtures/ID/NAME.screen`. Read it before it is committed: accounts, codes and
//! tokens that are no pattern of the tests are yours to take out. What is pasted is not kept unless the tool shows it.

#![allow(clippy::print_stdout, reason = "a program that tells what to do")]

use anteroom_testbed::{
    NativeCli, TestCa,
    native_cli::{InstalledTools, Recording, STEP, Seat, Start, descriptor},
};
use anteroom_wire::provider::FileFormat;
use anyhow::{Context, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{process::Command, time::timeout};

const EVERY: Duration = Duration::from_millis(200);
/// A screen that stays as it is for so many looks has come to rest.
const STILL_LOOKS: u32 = 5;
/// A tool that has its credential and shows nothing new for so many looks stays as it is.
const STAYS_LOOKS: u32 = 25;
/// A person may take so long for the whole sign-in.
const LIMIT: Duration = Duration::from_secs(1_800);
const PROXIES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"];

#[derive(Default)]
struct Asked {
    id: String,
    method: Option<String>,
    bin: Vec<PathBuf>,
    name: String,
    told: String,
    direct: bool,
    small: bool,
    key: Option<PathBuf>,
}

fn asked() -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--bin" => asked.bin.push(fs::canonicalize(value()?)?),
            "--name" => asked.name = value()?,
            "--told" => asked.told = value()?,
            "--key" => asked.key = Some(value()?.into()),
            "--direct" => asked.direct = true,
            "--small" => asked.small = true,
            flag if flag.starts_with('-') => bail!("{flag} is not known"),
            _ if asked.id.is_empty() => asked.id = word,
            _ => asked.method = Some(word),
        }
    }
    ensure!(
        !asked.id.is_empty() && !asked.name.is_empty() && !asked.told.is_empty(),
        "ID, --name and --told are needed"
    );
    Ok(asked)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let asked = asked()?;
    let whole = descriptor(&asked.id)?;
    let method =
        asked.method.clone().map_or(Ok(whole.method.clone()), TryInto::try_into).map_err(anyhow::Error::msg)?;
    let provider = whole.with_method(&method).with_context(|| format!("{} has no method {method}", asked.id))?;
    let clis = if asked.bin.is_empty() {
        InstalledTools::ready().await?
    } else {
        InstalledTools::in_directories(asked.bin.clone())?
    };
    let version = version(&clis.found(&provider.argv)?).await?;
    let mut seat = if asked.small { Seat::SMALL } else { Seat::OF_A_MACHINE };
    if let Some(path) = &asked.key {
        seat = seat.with_key(fs::read_to_string(path)?.trim());
    }
    let network = if asked.direct { "with this host's network" } else { "without a network" };
    let how = format!(
        "by crates/testbed/examples/record_screens.rs from the released tool, in a terminal of {}x{}, {network}",
        seat.columns, seat.rows
    );
    let mut recording = Recording::new(&provider, &version, &asked.told, &how);
    recording.never(&seat.key.iter().cloned().collect::<Vec<_>>());
    let mut started = provider.clone();
    if asked.direct {
        started.env_unset.extend(PROXIES.map(str::to_owned));
    }
    let ca = TestCa::new()?.pem();
    let start = Start { provider: started, clis: &clis, ca, answers: BTreeMap::new(), env: &[] };
    let tool = NativeCli::start_at(start, &seat).await?;
    println!("tmux -S {} attach", tool.socket().display());
    follow(&tool, &mut recording).await?;
    if !provider.credential.status_argv.is_empty() {
        let (exit, printed) = tool.status(&clis).await?;
        recording.status(exit.unwrap_or(-1), &printed)?;
    }
    let written = tool.written()?;
    if let Some(written) = written.as_ref().filter(|_| provider.credential.format == FileFormat::Json) {
        recording.file(written)?;
    }
    println!("whole credential: {}", written.map_or_else(|| "none".to_owned(), |written| written.path));
    println!("wanted: {:?}, not granted: {:?}", tool.reached(), tool.not_granted());
    tool.finish().await?;
    println!("{}", recording.write(&asked.name)?.display());
    Ok(())
}

/// Keeps each screen at rest until the tool has ended, or its rules say that it is signed in and it stays.
async fn follow(tool: &NativeCli, recording: &mut Recording) -> anyhow::Result<()> {
    let until = Instant::now() + LIMIT;
    let (mut last, mut still) = (None, 0);
    loop {
        let ended = tool.ended()?.is_some();
        let now = tool.look().await?;
        still = if last.as_ref() == Some(&now) { still + 1 } else { 0 };
        if still == STILL_LOOKS && !now.text().trim().is_empty() {
            recording.looks(tool).await?;
        }
        if (ended && still >= STILL_LOOKS) || (still >= STAYS_LOOKS && tool.written()?.is_some()) {
            return Ok(());
        }
        last = Some(now);
        ensure!(Instant::now() < until, "the tool did not end within {LIMIT:?}");
        tokio::time::sleep(EVERY).await;
    }
}

/// The first thing like a version in what the program prints about itself.
async fn version(argv: &[String]) -> anyhow::Result<String> {
    let home = tempfile::tempdir()?;
    let program = argv.first().context("an empty command")?;
    let mut command = Command::new(program);
    command.arg("--version").env("HOME", home.path()).kill_on_drop(true);
    let done = timeout(STEP, command.output()).await.with_context(|| format!("{program} --version is slow"))??;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let is_version =
        |word: &&str| word.split('.').count() == 3 && word.split('.').all(|part| part.parse::<u32>().is_ok());
    let found = printed.split_whitespace().map(|word| word.trim_matches(['v', ',', '(', ')', '.'])).find(is_version);
    Ok(found.with_context(|| format!("{program} --version says no version: {printed}"))?.to_owned())
}

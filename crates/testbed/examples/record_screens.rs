//! Records a fixture: runs a method's command in a terminal, records every stable screen, and writes the screens with the findings of
//! the descriptor's rules. A user operates the tool in another terminal, by the `tmux` command that is printed.
//!
//! ```text
//! cargo run -p anteroom-testbed --example record_screens -- opencode anthropic --bin ~/opencode/bin --name anthropic \
//!     --description "A key."
//! ```
//!
//! `--direct`: the tool uses this host's network (by default it has none); `--small`: 80x24 instead of 160x45; `--key FILE`: the
//! standard input of a method with `key_entry`. The file is `providers/fixtures/ID/NAME.screen`. Read it before you commit it, and
//! remove accounts, codes and tokens that the patterns of the tests do not mask. Pasted text is recorded only if the tool shows it.

#![allow(clippy::print_stdout, reason = "a program that prints instructions")]

use anteroom_testbed::{
    NativeCli, TestCa,
    native_cli::{PinnedTools, Recording, STEP_TIMEOUT, StartOptions, TerminalSetup, load_descriptor},
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

const POLL_EVERY: Duration = Duration::from_millis(200);
/// A screen that is the same in this number of polls is stable.
const STABLE_POLLS: u32 = 5;
/// The recording ends when the credential is complete and the screen is the same in this number of polls.
const FINAL_POLLS: u32 = 25;
/// The longest time for the whole sign-in.
const LIMIT: Duration = Duration::from_secs(1_800);
const PROXIES: [&str; 8] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"];

#[derive(Default)]
struct Options {
    id: String,
    method: Option<String>,
    bin: Vec<PathBuf>,
    name: String,
    description: String,
    direct: bool,
    small: bool,
    key: Option<PathBuf>,
}

fn parse_options() -> anyhow::Result<Options> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bin" => options.bin.push(fs::canonicalize(value()?)?),
            "--name" => options.name = value()?,
            "--description" => options.description = value()?,
            "--key" => options.key = Some(value()?.into()),
            "--direct" => options.direct = true,
            "--small" => options.small = true,
            flag if flag.starts_with('-') => bail!("unknown option {flag}"),
            _ if options.id.is_empty() => options.id = argument,
            _ => options.method = Some(argument),
        }
    }
    ensure!(
        !options.id.is_empty() && !options.name.is_empty() && !options.description.is_empty(),
        "ID, --name and --description are required"
    );
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = parse_options()?;
    let descriptor = load_descriptor(&options.id)?;
    let method =
        options.method.clone().map_or(Ok(descriptor.method.clone()), TryInto::try_into).map_err(anyhow::Error::msg)?;
    let provider = descriptor.with_method(&method).with_context(|| format!("{} has no method {method}", options.id))?;
    let clis = if options.bin.is_empty() {
        PinnedTools::install().await?
    } else {
        PinnedTools::in_directories(options.bin.clone())?
    };
    let version = version(&clis.resolve_program(&provider.argv)?).await?;
    let mut setup = if options.small { TerminalSetup::MINIMUM } else { TerminalSetup::MACHINE };
    if let Some(path) = &options.key {
        setup = setup.with_key(fs::read_to_string(path)?.trim());
    }
    let network = if options.direct { "with this host's network" } else { "without a network" };
    let recorded = format!(
        "by crates/testbed/examples/record_screens.rs from the released tool, in a terminal of {}x{}, {network}",
        setup.columns, setup.rows
    );
    let mut recording = Recording::new(&provider, &version, &options.description, &recorded);
    recording.forbid(&setup.key.iter().cloned().collect::<Vec<_>>());
    let mut started = provider.clone();
    if options.direct {
        started.env_unset.extend(PROXIES.map(str::to_owned));
    }
    let ca_pem = TestCa::new()?.pem();
    let start = StartOptions { provider: started, tools: &clis, ca_pem, host_overrides: BTreeMap::new(), env: &[] };
    let tool = NativeCli::start_in(start, &setup).await?;
    println!("tmux -S {} attach", tool.tmux_socket().display());
    follow(&tool, &mut recording).await?;
    if !provider.credential.status_argv.is_empty() {
        let (exit, printed) = tool.run_status_command(&clis).await?;
        recording.record_status(exit.unwrap_or(-1), &printed)?;
    }
    let written = tool.read_complete_credential()?;
    if let Some(written) = written.as_ref().filter(|_| provider.credential.format == FileFormat::Json) {
        recording.record_credential(written)?;
    }
    println!("credential: {}", written.map_or_else(|| "none".to_owned(), |written| written.path));
    println!("requested targets: {:?}, not allowed: {:?}", tool.requested_targets(), tool.denied_targets());
    tool.finish().await?;
    println!("{}", recording.write(&options.name)?.display());
    Ok(())
}

/// Records each stable screen until the tool has exited, or its credential is complete and its screen does not change.
async fn follow(tool: &NativeCli, recording: &mut Recording) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let (mut last, mut unchanged) = (None, 0);
    loop {
        let exited = tool.exit_code()?.is_some();
        let now = tool.read_snapshot().await?;
        unchanged = if last.as_ref() == Some(&now) { unchanged + 1 } else { 0 };
        if unchanged == STABLE_POLLS && !now.text().trim().is_empty() {
            recording.record_screen(tool).await?;
        }
        if (exited && unchanged >= STABLE_POLLS)
            || (unchanged >= FINAL_POLLS && tool.read_complete_credential()?.is_some())
        {
            return Ok(());
        }
        last = Some(now);
        ensure!(Instant::now() < deadline, "the tool did not exit within {LIMIT:?}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// The first version number in the output of `PROGRAM --version`.
async fn version(argv: &[String]) -> anyhow::Result<String> {
    let home = tempfile::tempdir()?;
    let program = argv.first().context("an empty command")?;
    let mut command = Command::new(program);
    command.arg("--version").env("HOME", home.path()).kill_on_drop(true);
    let done = timeout(STEP_TIMEOUT, command.output())
        .await
        .with_context(|| format!("{program} --version takes too long"))??;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let is_version =
        |text: &&str| text.split('.').count() == 3 && text.split('.').all(|part| part.parse::<u32>().is_ok());
    let found = printed.split_whitespace().map(|text| text.trim_matches(['v', ',', '(', ')', '.'])).find(is_version);
    Ok(found.with_context(|| format!("{program} --version prints no version: {printed}"))?.to_owned())
}

//! The command line. `keeper` is started by the server itself, once for each machine, and is not for people.

mod answers;
mod bench;
mod bundle;
pub mod client;
mod credential_files;
mod credentials;
mod doctor;
mod exec;
mod foundation;
mod image;
mod login;
mod logs;
mod progress;
mod providers;
mod serve;
mod sessions;
mod sign_in;
mod sweep;
mod token;
mod watch;
mod why;

use crate::{config::Config, log};
use clap::{Parser, Subcommand};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Disposable machines in which people sign command-line tools in.
#[derive(Debug, Parser)]
#[command(name = "anteroom", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    /// The configuration file; every setting has a default.
    #[arg(long, global = true, env = "ANTEROOM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Instead of the configuration's state directory.
    #[arg(long, global = true, env = "ANTEROOM_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Instead of the configuration's cache directory.
    #[arg(long, global = true, env = "ANTEROOM_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: pages, API, machines.
    Serve {
        /// Also run a small identity provider for the demo tool.
        #[arg(long)]
        demo: bool,
        /// Instead of the configuration's address.
        #[arg(long, env = "ANTEROOM_LISTEN", value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Look at this host and say everything that is missing or worse than it should be.
    Doctor {
        /// Instead: what exists on this host (processes, files, sessions) against what should.
        #[arg(long)]
        leaks: bool,
        /// With --leaks: as JSON.
        #[arg(long, requires = "leaks")]
        json: bool,
    },
    /// Sign a tool in: prints the link, shows progress, stores the credential or writes it.
    Login(login::LoginArguments),
    /// Run a command in a fresh machine with a stored credential, in this terminal. Ends with the command's code; with 125 when it could
    /// not be run.
    Exec(exec::ExecArguments),
    /// Stored credentials.
    #[command(subcommand)]
    Credentials(credentials::CredentialsCommand),
    /// List sessions, or show one with its timeline.
    Sessions {
        /// One session's id.
        session: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what is so with a session, and why.
    Why {
        /// The session's id.
        session: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the log: one session's lines, or the last of all.
    Logs(logs::LogsArguments),
    /// Write all that is known of a session into one file, without secrets.
    Bundle {
        /// The session's id.
        session: String,
        /// Where to; it must not exist. Default: `anteroom-SESSION.tar.gz` here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Finish now what facts demand: sessions without an owner, machines without a session, old evidence.
    Sweep {
        /// Only say what would be done, and why.
        #[arg(long)]
        dry_run: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a new single-use link that lets one person in as operator.
    Link,
    /// The machine image.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// The tools that can be signed in, and their descriptors.
    #[command(subcommand)]
    Providers(providers::ProvidersCommand),
    /// API tokens for backends.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Measurements.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Runs the command that the arguments say.
pub fn main() -> ExitCode {
    // Before any thread and without a reactor: one keeper lives for each machine, and shall be small and quick.
    let mut raw = std::env::args_os().skip(1);
    if raw.next().is_some_and(|first| first == "keeper") {
        return match raw.next() {
            Some(run_dir) => anteroom_machine::keeper::main(Path::new(&run_dir)),
            None => ExitCode::FAILURE,
        };
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => return usage(&said),
    };
    let is_exec = matches!(arguments.command, Command::Exec(_));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!(error), is_exec),
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(error) => failed(&error, is_exec),
    }
}

/// What is said of arguments that are none, or of those that ask for it. A code of `exec`'s own is not one that its command may have.
fn usage(said: &clap::Error) -> ExitCode {
    const WRONG_USAGE: u8 = 2;
    // Where nothing can be printed, the code still tells.
    let _ = said.print();
    let mut before_command = std::env::args_os().skip(1).take_while(|word| word != "--");
    match (said.use_stderr(), before_command.any(|word| word == "exec")) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::from(exec::NOT_RUN),
        (true, false) => ExitCode::from(WRONG_USAGE),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(dir) = arguments.state_dir {
        config.state_dir = dir;
    }
    if let Some(dir) = arguments.cache_dir {
        config.cache_dir = dir;
    }
    let mut log_config = config.log.clone();
    let serving = matches!(arguments.command, Command::Serve { .. });
    if !serving && log_config.level == "info" {
        // A command's own words are enough; warnings are still heard.
        log_config.level = "warn".into();
    }
    if !serving {
        log::start(&log_config).map_err(anyhow::Error::msg)?;
    }
    match arguments.command {
        Command::Serve { demo, listen } => {
            config.listen = listen.unwrap_or(config.listen);
            serve::run(config, demo).await
        }
        Command::Doctor { leaks: true, json } => doctor::leaks::run(&config, json).await,
        Command::Doctor { leaks: false, .. } => doctor::run(&config).await,
        Command::Login(arguments) => login::run(&config, arguments).await,
        Command::Exec(arguments) => exec::run(&config, arguments).await,
        Command::Credentials(command) => credentials::run(&config, command).await,
        Command::Sessions { session, json } => sessions::run(&config, session.as_deref(), json).await,
        Command::Why { session, json } => why::run(&config, &session, json).await,
        Command::Logs(arguments) => logs::run(&config, arguments).await,
        Command::Bundle { session, out } => bundle::run(&config, &session, out.as_deref()).await,
        Command::Sweep { dry_run, json } => sweep::run(&config, dry_run, json).await,
        Command::Link => sessions::link(&config).await,
        Command::Image(command) => image::run(&config, command).await,
        Command::Providers(command) => providers::run(&config, command).await,
        Command::Token(command) => token::run(&config, command).await,
        Command::Bench(command) => bench::run(config, command).await,
    }
}

#[expect(clippy::print_stderr, reason = "the command's last words")]
fn failed(error: &anyhow::Error, is_exec: bool) -> ExitCode {
    eprintln!("anteroom: {error:#}");
    if is_exec { ExitCode::from(exec::NOT_RUN) } else { ExitCode::FAILURE }
}

/// Prints a line for people. A reader that has seen enough closes the pipe: that is no fault.
fn say(text: impl std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}

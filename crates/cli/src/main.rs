//! The `anteroom` command line. The subcommand `keeper` is internal: the server starts it once for each machine.

mod audit;
mod auth;
mod backup;
mod bench;
mod bundle;
mod client;
mod config_command;
mod confirm;
mod connection;
mod credential_files;
mod credentials;
mod db;
mod diagnose;
mod doctor;
mod erase;
mod exec;
mod helpers;
mod hosts;
mod image;
mod keys;
mod login;
mod logs;
mod machine_environment;
mod output;
mod overrides;
mod own_options;
mod package_config;
mod pages;
mod place;
mod progress;
mod prompt_responder;
mod providers;
mod qr;
mod reconcile;
mod reference;
mod serve;
mod sessions;
mod sign_in;
mod status;
mod stop;
mod table;
mod terminal;
mod terminal_input;
mod token;
mod top;
mod watch;
mod webhook;
mod when;

use crate::{
    client::ApiClient,
    connection::{GivenOptions, ServerArguments, local_access},
};
use anteroom_controller::config::{Config, ConfigSources};
use anteroom_wire::ProviderId;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use output::{OutputFailure, one_line, print_error_line, print_line};
use place::Place;
use std::{
    alloc::System,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};
use zeroizing_alloc::ZeroAlloc;

/// Wipes all memory that is freed: credentials pass through buffers of the HTTP, TLS and JSON libraries, which do not wipe them.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Run disposable machines in which users sign in to command-line tools.
#[derive(Debug, Parser)]
#[command(name = "anteroom", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    /// Configuration file (TOML). Default: /etc/anteroom/anteroom.toml, the package's, where this user may read it and no directory is
    /// given; else all settings have their defaults.
    #[arg(long, global = true, env = "ANTEROOM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory; overrides `state_dir` of the configuration.
    #[arg(long, global = true, env = "ANTEROOM_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Cache directory; overrides `cache_dir` of the configuration.
    #[arg(long, global = true, env = "ANTEROOM_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: web pages, API and machines.
    Serve {
        /// Also run a small identity provider, so that the demo tool can be used without an account.
        #[arg(long)]
        demo: bool,
        /// Address to listen on; overrides `listen` of the configuration.
        #[arg(long, env = "ANTEROOM_LISTEN", value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Check or print the configuration.
    #[command(subcommand)]
    Config(config_command::ConfigCommand),
    /// Print whether a server runs with this state directory, and how to open and stop it. Exits with 3 if none runs.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check this host and the server on it, and list every problem. Exits with 1 if something is missing, with 3 if only no server runs.
    Doctor {
        /// List orphaned processes, files and sessions instead.
        #[arg(long)]
        leaks: bool,
        /// Check the way to every host of this provider instead: name, address, proxy, TLS.
        #[arg(long, value_name = "PROVIDER", conflicts_with = "leaks")]
        network: Option<ProviderId>,
        /// Check public_url instead, as a browser reaches it through the reverse proxy in front: page, sign-in, updates, WebSocket.
        #[arg(long, conflicts_with_all = ["leaks", "network"])]
        public_url: bool,
        /// With --network: check only this host.
        #[arg(long, value_name = "HOST[:PORT]", requires = "network")]
        host: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Use servers on other hosts: addresses, tokens, profiles.
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// Sign in to a tool: print the link, show progress, and store the credential or write it to a file.
    Login(login::LoginArguments),
    /// Run a command with a stored credential in a new machine, with the input, output and errors of this process.
    ///
    /// Exits with the command's exit code (128 + number if a signal ended it), with 127 if the machine has no such command, with 126 if
    /// it cannot be executed, or with 125 if no machine could run it or the connection was lost.
    Exec(exec::ExecArguments),
    /// Show the terminal of a session in this terminal. Enter, then `~.`, detaches.
    Attach(exec::attach::AttachArguments),
    /// Copy files and directories into and out of the machine of a session that `anteroom exec` started.
    Cp(exec::copy_files::CopyArguments),
    /// List, check, lease, renew and delete stored credentials.
    #[command(subcommand)]
    Credentials(credentials::CredentialsCommand),
    /// List sessions, show one session with its timeline, watch or cancel sessions.
    Sessions(sessions::SessionsArguments),
    /// Show the active sessions and the machines, again and again.
    Top(top::TopArguments),
    /// List the helpers who watch a session, or end their access.
    #[command(subcommand)]
    Helpers(helpers::HelpersCommand),
    /// Explain a session's current state or failure.
    Diagnose {
        /// The session's id.
        session: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print log lines of one session, or the last lines of all. Of a server on another host: the last 2,000 lines at most.
    Logs(logs::LogsArguments),
    /// Write a support bundle of a session: all recorded data, without secrets.
    Bundle {
        /// The session's id.
        session: String,
        /// Output file; it must not exist. Default: `anteroom-SESSION.tar.gz` in the current directory.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Print JSON: the file and its size.
        #[arg(long)]
        json: bool,
    },
    /// Back up the database and the audit trail to one file, while the server runs. From another host: without the key file.
    Backup(backup::BackupArguments),
    /// Restore a backup into a new state directory on this host, while no server runs.
    Restore(backup::RestoreArguments),
    /// Check the database, or move it to another one.
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Run one reconciliation now: end orphaned sessions and machines, remove old receipts and bundles.
    Reconcile {
        /// Print the planned actions with their reasons, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print, export or verify the audit trail: who did what, from where, with which outcome.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print a new single-use login link for an operator.
    LoginLink {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Build or show the machine image.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// List, check and test the descriptors of the supported tools.
    #[command(subcommand)]
    Providers(providers::ProvidersCommand),
    /// Delete everything that is stored about a user.
    Erase(erase::EraseArguments),
    /// List the hosts of the cluster, let machines join, drain, remove and fence hosts.
    #[command(subcommand)]
    Host(hosts::HostCommand),
    /// List, rotate and retire the keys that wrap stored credentials.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Create, list and revoke API tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List, test and resend messages to the webhook's receivers.
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Measure this host.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command.
    Man {
        /// The directory, such as ~/.local/share/man/man1. It is made if it does not exist.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Parses the arguments and runs the command.
fn main() -> ExitCode {
    // The keeper runs without threads and without a reactor: there is one for each machine, so it must be small and fast.
    let mut raw = std::env::args_os().skip(1);
    if raw.next().is_some_and(|first| first == "keeper") {
        return match raw.next() {
            Some(run_dir) => anteroom_machine::keeper::main(Path::new(&run_dir)),
            None => ExitCode::FAILURE,
        };
    }
    let parsed = reference::with_help(Arguments::command()).try_get_matches();
    let parsed = parsed.and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, GivenOptions::of(&matches))));
    let (arguments, given) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return print_usage(&error),
    };
    own_options::remember(std::env::args_os().skip(1));
    let is_exec = matches!(arguments.command, Command::Exec(_));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print_error(&anyhow::anyhow!(error), is_exec),
    };
    let ended = runtime.block_on(run(arguments, given));
    // A thread may still read the terminal.
    runtime.shutdown_background();
    output::record(std::io::stdout().flush());
    match (ended, output::failure()) {
        (Err(error), _) => print_error(&error, is_exec),
        (Ok(_), Some(failure @ OutputFailure::Closed)) => ExitCode::from(failure.exit_code()),
        (Ok(_), Some(OutputFailure::Failed(reason))) => print_error(&unwritten(reason), is_exec),
        (Ok(code), None) => code,
    }
}

/// The error of a command whose output is incomplete, whatever else it did.
fn unwritten(reason: &str) -> anyhow::Error {
    anyhow::anyhow!("standard output cannot be written: {reason}")
}

/// Prints a usage error, `--help` or `--version`. A usage error of `exec` exits with 125, to differ from its command's exit codes.
fn print_usage(error: &clap::Error) -> ExitCode {
    const USAGE_ERROR: u8 = 2;
    if error.use_stderr() {
        print_empty_variables();
    }
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    if !error.use_stderr() && !output::record(printed) {
        return match output::failure() {
            Some(OutputFailure::Failed(reason)) => print_error(&unwritten(reason), false),
            Some(OutputFailure::Closed) | None => ExitCode::from(output::CLOSED_PIPE),
        };
    }
    let mut before_command = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    match (error.use_stderr(), before_command.any(|argument| argument == "exec")) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::from(exec::EXIT_CODE_NOT_RUN),
        (true, false) => ExitCode::from(USAGE_ERROR),
    }
}

/// Names the variables of the options of every command that are set to nothing.
fn print_empty_variables() {
    for name in Arguments::command().get_arguments().filter_map(clap::Arg::get_env) {
        if std::env::var_os(name).is_some_and(|value| value.is_empty()) {
            print_error_line(format_args!("anteroom: the variable {} is empty: unset it, or set it", name.display()));
        }
    }
}

async fn run(arguments: Arguments, given: GivenOptions) -> anyhow::Result<ExitCode> {
    let commands = || reference::with_help(Arguments::command());
    if let Command::Completions { shell } = &arguments.command {
        return reference::print_completions(*shell, commands());
    }
    if let Command::Man { dir } = &arguments.command {
        return reference::write_man_pages(dir, commands());
    }
    if let Command::Providers(providers::ProvidersCommand::Example) = &arguments.command {
        return Ok(providers::print_example());
    }
    let sources =
        ConfigSources { file: package_config::config_file(&arguments), overrides: overrides::given(&arguments)? };
    let place = arguments.command.place();
    match place {
        Place::AnyServer => {}
        Place::NoServer(why) => ServerArguments::note_unused(given, why),
        Place::ServersHost(why) => arguments.server.require_this_host(given, why)?,
    }
    // These two read it themselves.
    if let Command::Serve { demo, .. } = arguments.command {
        return serve::run(sources, demo).await;
    }
    if let Command::Config(command) = &arguments.command {
        let client = match place {
            Place::AnyServer => Some(arguments.server.open(&Config::default(), given)?),
            Place::NoServer(_) | Place::ServersHost(_) => None,
        };
        return config_command::run(sources, client.filter(ApiClient::is_remote).as_ref(), command).await;
    }
    let config = overrides::read_for_command(&sources);
    if let (Err(_), Command::Providers(command)) = (&config, &arguments.command) {
        command.check_files()?;
    }
    let config = config?;
    if matches!(arguments.command, Command::Exec(_) | Command::Login(_) | Command::Top(_)) {
        // They use the terminal themselves.
        progress::hide_waits();
    }
    if place != Place::AnyServer {
        return run_on_this_host(config, arguments.command).await;
    }
    if let Command::Auth(command) = arguments.command {
        return auth::run(&config, &arguments.server, given, command).await;
    }
    run_with_server(&config, &arguments.server.open(&config, given)?, arguments.command).await
}

/// Runs a command that uses no server, or only that of this host.
async fn run_on_this_host(config: Config, command: Command) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(local_access(&config));
    if let Command::Bench(command) = command {
        return bench::run(config, command).await;
    }
    if let Command::Image(command) = command {
        return image::run(&config, command).await;
    }
    if let Command::Restore(arguments) = command {
        return backup::run_restore(&config, arguments).await;
    }
    if let Command::Doctor { leaks: false, network, public_url, host, json } = command {
        return match network {
            Some(provider) => doctor::network::run(&config, &provider, host.as_deref(), json).await,
            None if public_url => doctor::public_url::run(&config, &client, json).await,
            None => doctor::run(&config, &client, json).await,
        };
    }
    run_with_server(&config, &client, command).await
}

/// Runs a command that works with a server on any host.
async fn run_with_server(config: &Config, client: &ApiClient, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status { json } => status::run(config, client, json).await,
        Command::Doctor { json, .. } => doctor::leaks::run(config, client, json).await,
        Command::Login(arguments) => login::run(client, arguments).await,
        Command::Exec(arguments) => exec::run(client, arguments).await,
        Command::Attach(arguments) => exec::attach::run(client, arguments).await,
        Command::Cp(arguments) => exec::copy_files::run(client, arguments).await,
        Command::Credentials(command) => credentials::run(client, command).await,
        Command::Sessions(arguments) => sessions::run(client, arguments).await,
        Command::Top(arguments) => top::run(client, arguments).await,
        Command::Helpers(command) => helpers::run(client, command).await,
        Command::Diagnose { session, json } => diagnose::run(client, &session, json).await,
        Command::Logs(arguments) => logs::run(config, client, arguments).await,
        Command::Backup(arguments) => backup::run_backup(config, client, arguments).await,
        Command::Db(command) => db::run(config, client, command).await,
        Command::Bundle { session, out, json } => bundle::run(client, &session, out.as_deref(), json).await,
        Command::Reconcile { dry_run, json } => reconcile::run(client, dry_run, json).await,
        Command::Audit(command) => audit::run(config, client, command).await,
        Command::LoginLink { json } => sessions::login_link(client, json).await,
        Command::Providers(command) => providers::run(config, client, command).await,
        Command::Erase(arguments) => erase::run(client, arguments).await,
        Command::Host(command) => hosts::run(config, client, command).await,
        Command::Keys(command) => keys::run(config, client, command).await,
        Command::Token(command) => token::run(config, client, command).await,
        Command::Webhook(command) => webhook::run(client, command).await,
        Command::Serve { .. }
        | Command::Config(_)
        | Command::Image(_)
        | Command::Restore(_)
        | Command::Bench(_)
        | Command::Auth(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {
            unreachable!("handled before a server is chosen")
        }
    }
}

fn print_error(error: &anyhow::Error, is_exec: bool) -> ExitCode {
    print_error_line(format_args!("anteroom: {error:#}"));
    if is_exec { ExitCode::from(exec::EXIT_CODE_NOT_RUN) } else { ExitCode::FAILURE }
}

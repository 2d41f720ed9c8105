//! `anteroom-demo`: a small command-line tool that signs in as the real tools do, for trying Anteroom without an account.
//!
//! ```text
//!  anteroom-demo login ── opens ──▶ issuer /authorize?…&code_challenge&state   (in the browser, by $BROWSER)
//!       ▲ 127.0.0.1:<free>/callback?code&state ◀── redirect ──┘
//!       └── POST issuer /token with the code and the verifier ──▶ ~/.config/anteroom-demo/credentials.json
//! ```
//!
//! OAuth 2.0 authorization code (RFC 6749) with PKCE (RFC 7636, S256), a loopback redirect (RFC 8252) and the issuer's own
//! metadata (RFC 8414). It speaks plain HTTP only, through `http_proxy` when that is set: its issuer runs in the tests
//! and in `anteroom serve --demo`, and its credential gives access to nothing.

#[path = "demo_cli/callback.rs"]
mod callback;
#[path = "demo_cli/callback_page.rs"]
mod callback_page;
#[path = "demo_cli/credential_file.rs"]
mod credential_file;
#[path = "demo_cli/http_client.rs"]
mod http_client;
#[path = "demo_cli/login.rs"]
mod login;
#[path = "demo_cli/oauth.rs"]
mod oauth;
#[path = "demo_cli/person.rs"]
mod person;
#[path = "demo_cli/query.rs"]
mod query;

use credential_file::Credentials;
use login::{Login, LoginMethod};
use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DEFAULT_ISSUER: &str = "http://id.anteroom.test";
const ISSUER_VARIABLE: &str = "ANTEROOM_DEMO_ISSUER";
/// How long `login` waits for the callback of the browser, seconds.
const WAIT_S_MAX: u64 = 900;

const HELP: &str = "\
anteroom-demo signs you in to a demo identity provider.

  anteroom-demo login [METHOD] [--issuer URL] [--wait-s-max SECONDS]
  anteroom-demo status      exit status 0 when signed in, 1 when not
  anteroom-demo logout
  anteroom-demo --version

METHOD is one of:
  (none)             in the browser of this computer
  --no-browser       in any browser; paste the code that the last page shows
  --device-code      in any browser; enter the code that is shown here
  --with-api-key     with an API key on standard input

The issuer is http://id.anteroom.test unless --issuer or ANTEROOM_DEMO_ISSUER is set.
The credential is kept in $HOME/.config/anteroom-demo/credentials.json.
";

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Login { method: LoginMethod, issuer: Option<String>, wait_s_max: u64 },
    Status,
    Logout,
    Version,
    Help,
}

/// A command line that is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum UsageError {
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("--wait-s-max: {0} is not a number of seconds")]
    NotSeconds(String),
    #[error("unknown option of login: {0}")]
    UnknownOption(String),
    #[error("unknown command {0}")]
    UnknownCommand(String),
    #[error("unexpected argument {0}")]
    UnexpectedArgument(String),
}

fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let command = match args.next().as_deref() {
        None | Some("help" | "--help" | "-h") => Command::Help,
        Some("--version" | "-V" | "version") => Command::Version,
        Some("status") => Command::Status,
        Some("logout") => Command::Logout,
        Some("login") => {
            let (mut method, mut issuer, mut wait_s_max) = (LoginMethod::Browser, None, WAIT_S_MAX);
            while let Some(option) = args.next() {
                if let Some(chosen) = method_of(&option) {
                    method = chosen;
                    continue;
                }
                let Some(value) = args.next() else { return Err(UsageError::NoValue(option)) };
                match option.as_str() {
                    "--issuer" => issuer = Some(value),
                    "--wait-s-max" => {
                        wait_s_max = value.parse().map_err(|_| UsageError::NotSeconds(value))?;
                    }
                    _ => return Err(UsageError::UnknownOption(option)),
                }
            }
            return Ok(Command::Login { method, issuer, wait_s_max });
        }
        Some(other) => return Err(UsageError::UnknownCommand(other.to_owned())),
    };
    match args.next() {
        None => Ok(command),
        Some(more) => Err(UsageError::UnexpectedArgument(more)),
    }
}

/// The method of an option.
fn method_of(option: &str) -> Option<LoginMethod> {
    Some(match option {
        "--no-browser" => LoginMethod::Link,
        "--device-code" => LoginMethod::DeviceCode,
        "--with-api-key" => LoginMethod::ApiKey,
        _ => return None,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = match parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            print_error(&format!("{error}\nRun `anteroom-demo --help` for usage."));
            return ExitCode::from(2);
        }
    };
    match command {
        Command::Help => print_line(HELP.trim_end()),
        Command::Version => print_line(&format!("anteroom-demo {}", env!("CARGO_PKG_VERSION"))),
        Command::Login { method, issuer, wait_s_max } => return sign_in(method, issuer, wait_s_max).await,
        Command::Status => return status(),
        Command::Logout => match credential_file::remove_credential_file() {
            Ok(true) => print_line("signed out"),
            Ok(false) => print_line("not signed in"),
            Err(error) => return failed(&error.to_string()),
        },
    }
    ExitCode::SUCCESS
}

async fn sign_in(method: LoginMethod, issuer: Option<String>, wait_s_max: u64) -> ExitCode {
    let issuer = issuer
        .or_else(|| std::env::var(ISSUER_VARIABLE).ok().filter(|issuer| !issuer.is_empty()))
        .unwrap_or_else(|| DEFAULT_ISSUER.to_owned());
    let callback_timeout = Duration::from_secs(wait_s_max);
    let login = Login { method, issuer_url: issuer, callback_timeout, print: &print_line };
    match login.run().await {
        Ok(account) => {
            print_line(&format!("Signed in as {account}"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("{}\n{}", error.with_causes(), error.remedy())),
    }
}

fn status() -> ExitCode {
    match Credentials::load() {
        Ok(Some(credentials)) if credentials.is_usable_at(now_unix_s()) => {
            print_line(&format!("signed in as {}", credentials.account));
            ExitCode::SUCCESS
        }
        Ok(Some(_)) => {
            print_line("not signed in: the credential has expired");
            ExitCode::FAILURE
        }
        Ok(None) => {
            print_line("not signed in");
            ExitCode::FAILURE
        }
        Err(error) => failed(&error.to_string()),
    }
}

fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn failed(error: &str) -> ExitCode {
    print_error(error);
    ExitCode::FAILURE
}

/// Prints a line. A closed terminal is not an error.
fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "anteroom-demo: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_line_is_parsed_and_errors_name_the_argument() {
        assert_eq!(parsed(""), Ok(Command::Help));
        assert_eq!(
            parsed("login"),
            Ok(Command::Login { method: LoginMethod::Browser, issuer: None, wait_s_max: WAIT_S_MAX })
        );
        assert_eq!(
            parsed("login --wait-s-max 5 --device-code --issuer http://a.test"),
            Ok(Command::Login { method: LoginMethod::DeviceCode, issuer: Some("http://a.test".into()), wait_s_max: 5 })
        );
        for (line, expected) in [
            ("logn", "logn"),
            ("login --issuer", "needs a value"),
            ("login --wait-s-max x", "not a number"),
            ("status now", "unexpected"),
        ] {
            assert!(parsed(line).unwrap_err().to_string().contains(expected), "{line}");
        }
    }
}

//! `anteroom cp`: copies files and directories into and out of a running session, as a tar archive through an exec channel.

use super::{ExecEnd, print_status, run_in_session, stream::Streams};
use crate::{client::ApiClient, print_error_line};
use anteroom_wire::SessionId;
use anyhow::{Context, bail, ensure};
use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// The name of what is copied in the archive for a machine.
const ENTRY: &str = "copied";
/// Unpacks the archive in the target's directory and moves it there; into the target if that is a directory, under the name `$2`.
const UNPACK: &str = r#"set -e; to=$1; if [ -d "$to" ]; then to=$to/$2; fi; dir=$(dirname -- "$to")
[ -d "$dir" ] || { echo "$dir: there is no such directory in the machine" >&2; exit 1; }
[ -w "$dir" ] || { echo "$dir: this directory of the machine is not writable" >&2; exit 1; }
tmp=$(mktemp -d -- "$dir/.cp.XXXXXX"); trap 'rm -rf -- "$tmp"' EXIT; tar -xpf - -C "$tmp"
if [ -e "$to" ] && [ -d "$tmp/copied" ]; then echo "$to exists" >&2; exit 1; fi; mv -fT -- "$tmp/copied" "$to""#;
/// Packs `$1`.
const PACK: &str = r#"set -e; [ -e "$1" ] || [ -h "$1" ] || { echo "$1: there is no such file in the machine" >&2; exit 1; }
cd -- "$(dirname -- "$1")"; tar -cf - -- "$(basename -- "$1")""#;

/// Prints the file `$1`.
const PRINT: &str = r#"[ -e "$1" ] || { echo "$1: there is no such file in the machine" >&2; exit 1; }
[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 1; }; exec cat -- "$1""#;
/// Writes standard input to the file `$1`.
const WRITE: &str = r#"[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 1; }; exec cat > "$1""#;
/// As for every command whose arguments are wrong.
const WRONG_ARGUMENTS: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArguments {
    /// What is copied: a path here, or SESSION:PATH in the machine of a session that `anteroom exec` started; `-`: standard input.
    #[arg(value_name = "FROM")]
    from: Place,
    /// Where it is copied to. An existing directory gets it under its own name; `-`: standard output, of one file.
    #[arg(value_name = "TO")]
    to: Place,
}

/// A path here or in a machine.
#[derive(Debug, Clone)]
enum Place {
    Here(PathBuf),
    Machine(SessionId, String),
}

impl std::str::FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some((session, path)) if !session.contains('/') => {
                ensure!(!path.is_empty(), "a path follows the colon");
                Ok(Self::Machine(session.parse()?, path.to_owned()))
            }
            Some(_) | None => Ok(Self::Here(text.into())),
        }
    }
}

pub(crate) async fn run(client: &ApiClient, arguments: CopyArguments) -> anyhow::Result<ExitCode> {
    let standard = Path::new("-");
    match (arguments.from, arguments.to) {
        (Place::Here(from), Place::Machine(session, to)) if from == standard => {
            run_script(client, &session, WRITE, &[&to], Streams::standard()?).await
        }
        (Place::Machine(session, from), Place::Here(to)) if to == standard => {
            let streams = Streams { input: None, ..Streams::standard()? };
            run_script(client, &session, PRINT, &[&from], streams).await
        }
        (Place::Here(from), Place::Machine(session, to)) => copy_in(client, &from, &session, &to).await,
        (Place::Machine(session, from), Place::Here(to)) => copy_out(client, &session, &from, &to).await,
        (Place::Here(_), Place::Here(_)) | (Place::Machine(..), Place::Machine(..)) => {
            print_error_line("anteroom: one of FROM and TO is SESSION:PATH, the other a path here");
            Ok(ExitCode::from(WRONG_ARGUMENTS))
        }
    }
}

async fn run_script(
    client: &ApiClient,
    session: &SessionId,
    text: &str,
    arguments: &[&str],
    streams: Streams,
) -> anyhow::Result<ExitCode> {
    let end = run_in_session(client, session, script(text, arguments), streams).await?;
    Ok(ExitCode::from(exit_code(end)?))
}

fn script(text: &str, arguments: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "sh"].iter().chain(arguments).map(|word| (*word).to_owned()).collect()
}

async fn copy_in(client: &ApiClient, from: &Path, session: &SessionId, to: &str) -> anyhow::Result<ExitCode> {
    let name = file_name(from)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let from = from.to_owned();
    let packing = tokio::task::spawn_blocking(move || pack(&from, write));
    let mut streams = Streams::standard()?;
    streams.input = Some(Arc::new(File::from(read)));
    let end = run_in_session(client, session, script(UNPACK, &[to, &name]), streams).await?;
    let code = exit_code(end)?;
    if code == 0 {
        packing.await??;
    }
    Ok(ExitCode::from(code))
}

fn pack(from: &Path, to: OwnedFd) -> anyhow::Result<()> {
    let mut archive = tar::Builder::new(File::from(to));
    archive.follow_symlinks(false);
    let metadata = std::fs::symlink_metadata(from).with_context(|| from.display().to_string())?;
    if metadata.is_dir() {
        archive.append_dir_all(ENTRY, from)?;
    } else {
        archive.append_path_with_name(from, ENTRY)?;
    }
    archive.finish()?;
    Ok(())
}

async fn copy_out(client: &ApiClient, session: &SessionId, from: &str, to: &Path) -> anyhow::Result<ExitCode> {
    let name = file_name(Path::new(from))?;
    let target = if to.is_dir() { to.join(&name) } else { to.to_owned() };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unpacked = tempfile::Builder::new().prefix(".cp.").tempdir_in(parent).context("the target's directory")?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let directory = unpacked.path().to_owned();
    // The archive is from the machine: names that lead out of the directory, owners and set-user-ID bits are not taken from it.
    let unpacking = tokio::task::spawn_blocking(move || tar::Archive::new(File::from(read)).unpack(directory));
    let mut streams = Streams::standard()?;
    (streams.input, streams.stdout) = (None, Arc::new(File::from(write)));
    let end = run_in_session(client, session, script(PACK, &[from]), streams).await?;
    let code = exit_code(end)?;
    if code != 0 {
        return Ok(ExitCode::from(code));
    }
    unpacking.await?.context("the archive from the machine")?;
    let copied = unpacked.path().join(&name);
    ensure!(!(copied.is_dir() && target.exists()), "{} exists", target.display());
    std::fs::rename(&copied, &target).with_context(|| target.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn file_name(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} has no name", path.display()))
}

/// The exit code of the copy: 1 if a program in the machine failed.
fn exit_code(end: ExecEnd) -> anyhow::Result<u8> {
    match end {
        ExecEnd::Exited { code, message } => {
            if let Some(message) = message {
                print_status(&message);
            }
            Ok(if (1..125).contains(&code) { 1 } else { code })
        }
        ExecEnd::SessionOver { .. } => bail!("the session has ended"),
        ExecEnd::Stopped { why: Some(why), .. } => bail!(why),
        ExecEnd::Stopped { code, why: None } => Ok(code),
    }
}

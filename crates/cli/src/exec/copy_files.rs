//! `anteroom cp`: copies files and directories into and out of a running session, as a tar archive through an exec channel.

use super::{ExecEnd, print_status, run_in_session, stream::Streams};
use crate::client::ApiClient;
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
tmp=$(mktemp -d -- "$dir/.cp.XXXXXX"); trap 'rm -rf -- "$tmp"' EXIT; tar -xpf - -C "$tmp"
if [ -e "$to" ] && [ -d "$tmp/copied" ]; then echo "$to exists" >&2; exit 1; fi; mv -fT -- "$tmp/copied" "$to""#;
/// Packs `$1`.
const PACK: &str = r#"set -e; cd -- "$(dirname -- "$1")"; tar -cf - -- "$(basename -- "$1")""#;

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArguments {
    /// What is copied: a path here, or SESSION:PATH in the machine of a session that `anteroom exec` started.
    #[arg(value_name = "FROM")]
    from: Place,
    /// Where it is copied to. An existing directory gets it under its own name.
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
    match (arguments.from, arguments.to) {
        (Place::Here(from), Place::Machine(session, to)) => copy_in(client, &from, &session, &to).await,
        (Place::Machine(session, from), Place::Here(to)) => copy_out(client, &session, &from, &to).await,
        (Place::Here(_), Place::Here(_)) | (Place::Machine(..), Place::Machine(..)) => {
            bail!("one of the two is SESSION:PATH")
        }
    }
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

fn exit_code(end: ExecEnd) -> anyhow::Result<u8> {
    match end {
        ExecEnd::Exited { code, message } => {
            if let Some(message) = message {
                print_status(&message);
            }
            Ok(code)
        }
        ExecEnd::SessionOver { .. } => bail!("the session has ended"),
        ExecEnd::Stopped { why: Some(why), .. } => bail!(why),
        ExecEnd::Stopped { code, why: None } => Ok(code),
    }
}

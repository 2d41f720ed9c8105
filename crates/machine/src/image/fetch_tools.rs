//! Downloads command-line tools from the npm registry, verifies them against the recipe's integrity, and caches them.
//! No script of a package is run and no dependency is installed: a tool is one program, or scripts without dependencies.

use super::{
    build_command::BuildCommand,
    build_error::BuildError,
    progress::{BuildStep, ProgressReport},
    recipe::Cli,
};
use serde::Deserialize;
use sha2::{Digest, Sha512};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// A tool's verified package on disk.
pub(super) struct FetchedTool<'a> {
    pub(super) cli: &'a Cli,
    pub(super) package: PathBuf,
}

/// One element of what `npm pack --json` prints.
#[derive(Deserialize)]
struct Packed {
    filename: String,
}

/// Downloads the packages of all `clis` into `cache`, unless they are there. `scratch` is the temporary directory of this build.
pub(super) async fn fetch_tools<'a>(
    clis: &'a [Cli],
    cache: &Path,
    scratch: &Path,
    limit: Duration,
    progress: &(dyn Fn(ProgressReport) + Send + Sync),
) -> Result<Vec<FetchedTool<'a>>, BuildError> {
    let io = |path: &Path, source| BuildError::Io { step: BuildStep::Tools, path: path.to_owned(), source };
    fs::create_dir_all(cache).map_err(|source| io(cache, source))?;
    let mut fetched = Vec::new();
    for (index, cli) in clis.iter().enumerate() {
        progress(ProgressReport::new(
            BuildStep::Tools,
            fraction(index, clis.len()),
            &format!("{} {}", cli.name, cli.version),
        ));
        let package = cache.join(format!("{}-{}.tgz", cli.name, cli.version));
        let is_cached = match integrity_of(&package).await {
            Ok(found) => found == cli.integrity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(io(&package, source)),
        };
        if !is_cached {
            let new = pack(cli, scratch, limit).await?;
            let found = integrity_of(&new).await.map_err(|source| io(&new, source))?;
            if found != cli.integrity {
                return Err(BuildError::IntegrityMismatch {
                    package: cli.package.clone(),
                    expected: cli.integrity.clone(),
                    found,
                });
            }
            fs::rename(&new, &package).map_err(|source| io(&package, source))?;
        }
        fetched.push(FetchedTool { cli, package });
    }
    Ok(fetched)
}

/// Runs `npm pack`, which downloads one package without running its scripts.
async fn pack(cli: &Cli, scratch: &Path, limit: Duration) -> Result<PathBuf, BuildError> {
    let args: [OsString; 6] = [
        "pack".into(),
        (&cli.package).into(),
        "--json".into(),
        "--ignore-scripts".into(),
        "--pack-destination".into(),
        scratch.into(),
    ];
    let out = BuildCommand::new(BuildStep::Tools, limit, scratch, "npm", args).run_for_output().await?;
    let packed: Vec<Packed> = serde_json::from_slice(&out).map_err(|error| BuildError::Unexpected {
        step: BuildStep::Tools,
        what: format!("the output of npm pack {} cannot be parsed: {error}", cli.package),
    })?;
    match packed.first() {
        // For a scoped package npm may print a name with a slash; the file itself has a dash.
        Some(first) => Ok(scratch.join(first.filename.replace('/', "-").trim_start_matches('@'))),
        None => Err(BuildError::Unexpected {
            step: BuildStep::Tools,
            what: format!("npm pack {} downloaded nothing", cli.package),
        }),
    }
}

/// Calls `visit` for every file in a package, with its path in the package, its size, and a reader.
///
/// # Errors
/// The package cannot be read, or the first error of `visit`.
pub(super) fn for_each_file(
    package: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let file = io::BufReader::with_capacity(1 << 20, File::open(package)?);
    let mut archive = tar::Archive::new(flate2::bufread::GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let path = entry.path()?.to_str().map(str::to_owned);
            let path = path
                .ok_or_else(|| io::Error::other(format!("{} contains a path that is not UTF-8", package.display())))?;
            visit(&path, entry.size(), &mut entry)?;
        }
    }
    Ok(())
}

/// `sha512-<base64>` of a file, as the registry writes it (W3C Subresource Integrity).
async fn integrity_of(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let hash = tokio::task::spawn_blocking(move || -> io::Result<_> {
        let mut file = File::open(path)?;
        let mut hash = Sha512::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize()),
                got => hash.update(&buffer[..got]),
            }
        }
    });
    let hash = hash.await.map_err(io::Error::other)??;
    Ok(format!("sha512-{}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash)))
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn fraction(done: usize, all: usize) -> f32 {
    done as f32 / all.max(1) as f32
}

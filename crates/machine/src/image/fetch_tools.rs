//! Command-line tools from the npm registry, fetched by npm, checked against the recipe's integrity, kept in a cache.
//! Nothing of a package is run, and what it depends on is not installed: a tool is one program, or scripts without a dependency.

use super::{
    build_error::BuildError,
    program::Program,
    progress::{Progress, Step},
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

/// A tool's package on disk, checked.
pub(super) struct Fetched<'a> {
    pub(super) cli: &'a Cli,
    pub(super) package: PathBuf,
}

/// One element of what `npm pack --json` prints.
#[derive(Deserialize)]
struct Packed {
    filename: String,
}

/// Brings the packages of all `clis` into `cache`; `scratch` is a directory of this build.
pub(super) async fn fetch<'a>(
    clis: &'a [Cli],
    cache: &Path,
    scratch: &Path,
    limit: Duration,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Vec<Fetched<'a>>, BuildError> {
    let io = |path: &Path, source| BuildError::Io { step: Step::Tools, path: path.to_owned(), source };
    fs::create_dir_all(cache).map_err(|source| io(cache, source))?;
    let mut fetched = Vec::new();
    for (index, cli) in clis.iter().enumerate() {
        progress(Progress::at(Step::Tools, fraction(index, clis.len()), &format!("{} {}", cli.name, cli.version)));
        let package = cache.join(format!("{}-{}.tgz", cli.name, cli.version));
        let known = match integrity_of(&package).await {
            Ok(found) => found == cli.integrity,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(io(&package, source)),
        };
        if !known {
            let new = pack(cli, scratch, limit).await?;
            let found = integrity_of(&new).await.map_err(|source| io(&new, source))?;
            if found != cli.integrity {
                return Err(BuildError::Integrity {
                    package: cli.package.clone(),
                    expected: cli.integrity.clone(),
                    found,
                });
            }
            fs::rename(&new, &package).map_err(|source| io(&package, source))?;
        }
        fetched.push(Fetched { cli, package });
    }
    Ok(fetched)
}

/// `npm pack`: downloads one package without running anything of it.
async fn pack(cli: &Cli, scratch: &Path, limit: Duration) -> Result<PathBuf, BuildError> {
    let args: [OsString; 6] = [
        "pack".into(),
        (&cli.package).into(),
        "--json".into(),
        "--ignore-scripts".into(),
        "--pack-destination".into(),
        scratch.into(),
    ];
    let out = Program::new(Step::Tools, limit, scratch, "npm", args).output().await?;
    let packed: Vec<Packed> = serde_json::from_slice(&out).map_err(|error| BuildError::Unexpected {
        step: Step::Tools,
        what: format!("npm pack {} did not print what it downloaded: {error}", cli.package),
    })?;
    match packed.first() {
        // npm may name a file with a slash for a scoped package; only its own directory counts.
        Some(first) => Ok(scratch.join(first.filename.replace('/', "-").trim_start_matches('@'))),
        None => Err(BuildError::Unexpected {
            step: Step::Tools,
            what: format!("npm pack {} downloaded nothing", cli.package),
        }),
    }
}

/// Opens a package and gives every file in it to `take`: its path in the package, its size, and a reader.
///
/// # Errors
/// When the package cannot be read, or with the first error of `take`.
pub(super) fn each_file(
    package: &Path,
    mut take: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let file = io::BufReader::with_capacity(1 << 20, File::open(package)?);
    let mut archive = tar::Archive::new(flate2::bufread::GzDecoder::new(file));
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            let path = entry.path()?.to_str().map(str::to_owned);
            let path = path.ok_or_else(|| io::Error::other(format!("{} holds a strange name", package.display())))?;
            take(&path, entry.size(), &mut entry)?;
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

#[expect(clippy::cast_precision_loss, reason = "a handful of tools")]
fn fraction(done: usize, all: usize) -> f32 {
    done as f32 / all.max(1) as f32
}

//! The released tools of pinned versions: in a directory that the environment names, or installed by the first test that needs them.

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// The environment variable with a directory that contains `node_modules` of the versions in `clis/package-lock.json`.
const DIRECTORY_VARIABLE: &str = "ANTEROOM_TEST_CLIS";
const INSTALL_S_MAX: u64 = 900;

/// The installed tools.
#[derive(Debug, Clone)]
pub struct PinnedTools {
    modules: PathBuf,
    node: PathBuf,
    /// Directories that are searched first.
    preferred: Vec<PathBuf>,
}

impl PinnedTools {
    /// The tools in [`DIRECTORY_VARIABLE`], or in `target/clis`, where npm installs them first. Several tests may call this at once.
    ///
    /// # Errors
    /// npm is missing or fails, or a version is not the pinned one.
    pub async fn install() -> anyhow::Result<Self> {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("clis");
        let dir = match env::var_os(DIRECTORY_VARIABLE) {
            Some(dir) => dir.into(),
            None => npm_install(&manifests).await?,
        };
        let clis = Self { modules: dir.join("node_modules"), node: on_path("node")?, preferred: Vec::new() };
        let pinned: serde_json::Value = serde_json::from_str(&fs::read_to_string(manifests.join("package.json"))?)?;
        for (package, version) in pinned["dependencies"].as_object().into_iter().flatten() {
            ensure!(*version == *clis.installed_version(package)?, "{package} is not {version} in {}", dir.display());
        }
        Ok(clis)
    }

    /// The tools in these directories, of any version.
    ///
    /// # Errors
    /// node is missing.
    pub fn in_directories(directories: Vec<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { modules: PathBuf::from("/nonexistent"), node: on_path("node")?, preferred: directories })
    }

    /// The version of an installed package.
    ///
    /// # Errors
    /// It is not installed.
    pub fn installed_version(&self, package: &str) -> anyhow::Result<String> {
        let path = self.modules.join(package).join("package.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let manifest: serde_json::Value = serde_json::from_str(&text)?;
        manifest["version"].as_str().map(str::to_owned).with_context(|| format!("{package} has no version"))
    }

    /// The directories for `PATH`, including that of node.
    pub fn search_path(&self) -> String {
        let dirs = [
            self.modules.join("@anthropic-ai/claude-code-linux-x64"),
            self.modules.join("@openai/codex/vendor/x86_64-unknown-linux-musl/bin"),
            self.modules.join(".bin"),
            self.node.parent().unwrap_or(Path::new("/usr/bin")).to_owned(),
        ];
        let all: Vec<_> = self.preferred.iter().chain(&dirs).map(|dir| dir.to_string_lossy()).collect();
        all.join(":")
    }

    /// A command line with the program's absolute path.
    ///
    /// # Errors
    /// There is no such program.
    pub fn resolve_program(&self, argv: &[String]) -> anyhow::Result<Vec<String>> {
        let (program, rest) = argv.split_first().context("an empty command")?;
        let path = self.search_path();
        let found = path.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
        let found = found.with_context(|| format!("{program} is not in {path}"))?;
        Ok([vec![found.to_string_lossy().into_owned()], rest.to_vec()].concat())
    }
}

fn on_path(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed"))
}

/// Installs into `target/clis`, unless the same lock file was installed there before.
async fn npm_install(manifests: &Path) -> anyhow::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clis");
    fs::create_dir_all(&dir)?;
    let lock = fs::File::create(dir.join(".lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    let wanted: String = hex::encode(Sha256::digest(fs::read(manifests.join("package-lock.json"))?));
    let marker = dir.join(".installed");
    if fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(dir);
    }
    for name in ["package.json", "package-lock.json"] {
        fs::copy(manifests.join(name), dir.join(name))?;
    }
    // The packages need no install scripts, so these are not run.
    let mut npm = Command::new(on_path("npm")?);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&dir);
    npm.kill_on_drop(true);
    let done = timeout(Duration::from_secs(INSTALL_S_MAX), npm.output()).await.context("npm takes too long")??;
    ensure!(done.status.success(), "npm: {}", String::from_utf8_lossy(&done.stderr));
    fs::write(marker, wanted)?;
    drop(lock);
    Ok(dir)
}

//! The recipe, embedded in the binary: `image/recipe.toml` and the files below `image/files`.

use super::{extra_files::ExtraFile, package_lock::PackageLock, path_pattern};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const TEXT: &str = include_str!("../../../../image/recipe.toml");

/// Id of the guest's unprivileged user, as in `image/files/etc/passwd`.
const USER_ID: u64 = 1000;

/// `recipe.toml`; its comments document the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    pub(super) suite: String,
    pub(super) source_date_epoch_s: u64,
    pub(super) packages: Vec<String>,
    pub(super) unpack_excludes: Vec<String>,
    drop: Vec<String>,
    keep: Vec<String>,
    pub(super) kernel_options: Vec<String>,
    pub(super) modules: Vec<String>,
    pub(super) url_opener_links: Vec<String>,
    pub(super) agent_path: String,
    pub(super) required_paths: Vec<String>,
    #[serde(rename = "cli")]
    pub(super) clis: Vec<Cli>,
}

/// A command-line tool from the npm registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cli {
    /// The program's name in the guest.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The package and its version in npm's syntax (`@qwen-code/qwen-code@0.24.4`).
    pub package: String,
    /// The registry's `dist.integrity`: `sha512-…`.
    pub integrity: String,
    /// The program's path in the package, which begins with `package/`.
    pub executable: String,
    /// Whether all files of the package are installed, for an interpreter in the guest; otherwise only the executable.
    #[serde(default)]
    pub whole: bool,
    /// Files of a whole package that are not installed: patterns as in `drop`.
    #[serde(default)]
    pub leave_out: Vec<String>,
}

impl Cli {
    /// Everything that is wrong with the entry; empty if it is valid.
    pub fn validation_errors(&self) -> Vec<String> {
        let plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let name = (plain(&self.name) && !self.name.starts_with(['-', '.'])).then_some(());
        let checks = [
            (name, "name is not a program's name"),
            ((plain(&self.version)).then_some(()), "version is not a version"),
            (
                (!self.package.starts_with('-') && self.package.contains(&self.version)).then_some(()),
                "package does not name the version",
            ),
            (
                self.integrity.strip_prefix("sha512-").filter(|rest| !rest.is_empty()).map(drop),
                "integrity is not sha512-…",
            ),
            (
                self.guest_path(&self.executable).filter(|_| self.includes_path(&self.executable)).map(drop),
                "executable is not a path in the package, or is left out",
            ),
        ];
        checks.into_iter().filter(|(good, _)| good.is_none()).map(|(_, wrong)| wrong.to_owned()).collect()
    }

    /// Whether a file of the package is installed.
    pub(super) fn includes_path(&self, path: &str) -> bool {
        if self.whole {
            !self.leave_out.iter().any(|pattern| path_pattern::matches(pattern, path))
        } else {
            path == self.executable
        }
    }

    /// The path of a file of the package in the guest; `None` if the path is not a plain relative path below one directory.
    pub(super) fn guest_path(&self, path: &str) -> Option<String> {
        let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        // All files of a package are below one directory, whose name is irrelevant.
        let (_, below) = path.split_once('/').filter(|_| plain)?;
        Some(if self.whole { format!("usr/local/lib/{}/{below}", self.name) } else { self.program_path() })
    }

    /// The path of the tool's program in the guest.
    pub(super) fn program_path(&self) -> String {
        format!("usr/local/bin/{}", self.name)
    }
}

/// A file from `image/files` in the root file system.
pub(super) struct GuestFile {
    /// Its path in the guest, without the leading `/`.
    pub(super) path: &'static str,
    pub(super) content: &'static [u8],
    pub(super) mode: u32,
    /// User and group.
    pub(super) owner: u64,
}

macro_rules! guest_files {
    ($( $path:literal, $mode:literal, $owner:expr; )*) => {
        /// All files below `image/files`.
        pub(super) const GUEST_FILES: &[GuestFile] = &[$( GuestFile {
            path: $path,
            content: include_bytes!(concat!("../../../../image/files/", $path)),
            mode: $mode,
            owner: $owner,
        }, )*];
    };
}

guest_files! {
    "etc/chromium/policies/managed/anteroom.json", 0o644, 0;
    "etc/group", 0o644, 0;
    "etc/hostname", 0o644, 0;
    "etc/hosts", 0o644, 0;
    "etc/passwd", 0o644, 0;
    "etc/resolv.conf", 0o644, 0;
    "etc/shadow", 0o600, 0;
    "etc/tmux.conf", 0o644, 0;
    "etc/xdg/openbox/rc.xml", 0o644, 0;
    "home/user/.Xdefaults", 0o644, USER_ID;
}

/// Directories that the builder adds, with mode and owner; they replace the packages' directories.
pub(super) const GUEST_DIRS: &[(&str, u32, u64)] = &[
    ("dev", 0o755, 0),
    ("home/user", 0o700, USER_ID),
    ("proc", 0o755, 0),
    ("run", 0o755, 0),
    ("sys", 0o755, 0),
    ("tmp", 0o1777, 0),
    ("var/log", 0o755, 0),
    ("var/tmp", 0o1777, 0),
];

impl Recipe {
    /// The recipe of this binary.
    pub(super) fn parse_embedded() -> Result<Self, toml::de::Error> {
        toml::from_str(TEXT)
    }

    /// Adds tools from npm and as Debian packages with the name of their program. A tool with the same name is replaced.
    pub(super) fn add_tools_and_packages(&mut self, clis: &[Cli], packages: &[String]) {
        self.packages.extend_from_slice(packages);
        self.required_paths.extend(packages.iter().map(|name| format!("usr/bin/{name}")));
        self.clis.retain(|known| clis.iter().all(|cli| cli.name != known.name));
        self.clis.extend_from_slice(clis);
    }

    /// Removes the tools that an extra file replaces.
    pub(super) fn replace_tools(&mut self, files: &[ExtraFile]) {
        let tools: Vec<_> = files.iter().filter_map(ExtraFile::as_tool).collect();
        self.clis.retain(|cli| tools.iter().all(|(name, _)| *name != cli.name));
        // A tool that is a whole package has further files, which are not installed either.
        let below = |path: &String, name: &str| {
            path.strip_prefix("usr/local/lib/")
                .and_then(|path| path.strip_prefix(name))
                .is_some_and(|path| path.starts_with('/'))
        };
        self.required_paths.retain(|path| tools.iter().all(|(name, _)| !below(path, name)));
        self.required_paths.extend(files.iter().map(|file| file.path.trim_start_matches('/').to_owned()));
    }

    /// Whether a file of the packages is dropped from the root file system.
    pub(super) fn excludes_path(&self, path: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| path_pattern::matches(pattern, path));
        any(&self.drop) && !any(&self.keep)
    }

    /// Hashes everything in the recipe that the root file system depends on.
    pub(super) fn update_hash(&self, hash: &mut Sha256) {
        hash.update(TEXT);
        hash.update(PackageLock::text());
        for file in GUEST_FILES {
            hash.update(format!("\n{} {:o} {} {}\n", file.path, file.mode, file.owner, file.content.len()));
            hash.update(file.content);
        }
        for (path, mode, owner) in GUEST_DIRS {
            hash.update(format!("\n{path}/ {mode:o} {owner}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, path::Path};

    fn files_below(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_recipe_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/files");
        let mut on_disk = BTreeSet::new();
        files_below(&root, &root, &mut on_disk);
        let embedded: BTreeSet<String> = GUEST_FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn recipe_is_valid_and_required_files_are_not_dropped() {
        let recipe = Recipe::parse_embedded().unwrap();
        for path in &recipe.required_paths {
            assert!(!recipe.excludes_path(path), "{path}");
        }
        for cli in &recipe.clis {
            assert!(cli.package.contains(&cli.version), "{} must be pinned", cli.package);
            assert!(cli.integrity.starts_with("sha512-"), "{}", cli.integrity);
            assert!(
                cli.includes_path(&cli.executable) && cli.guest_path(&cli.executable).is_some(),
                "{}",
                cli.executable
            );
        }
        assert!(recipe.excludes_path("usr/lib/x86_64-linux-gnu/gconv/BIG5.so"));
        assert!(!recipe.excludes_path("usr/lib/x86_64-linux-gnu/gconv/ISO8859-1.so"));
        assert!(!recipe.excludes_path("usr/lib/chromium/chromium"));
    }

    #[test]
    fn package_is_installed_whole_or_as_one_program_and_never_elsewhere() {
        let recipe = Recipe::parse_embedded().unwrap();
        let cli = |name: &str| recipe.clis.iter().find(|cli| cli.name == name).unwrap();
        let (codex, gemini) = (cli("codex"), cli("gemini"));
        assert!(codex.includes_path(&codex.executable) && !codex.includes_path("package/package.json"));
        assert_eq!(codex.guest_path(&codex.executable).unwrap(), "usr/local/bin/codex");
        assert!(gemini.includes_path("package/package.json") && !gemini.includes_path("package/bundle/docs/index.md"));
        assert_eq!(gemini.guest_path("package/bundle/a.js").unwrap(), "usr/local/lib/gemini/bundle/a.js");
        for bad in ["package", "package/../../etc/passwd", "/etc/passwd", "package//x", "package/./x"] {
            assert_eq!(gemini.guest_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn extra_tools_are_added_and_their_faults_are_listed() {
        let mut recipe = Recipe::parse_embedded().unwrap();
        let known = recipe.clis.len();
        let mut extra = recipe.clis[0].clone();
        extra.version = "9.9.9".to_owned();
        extra.package = "@openai/codex@9.9.9".to_owned();
        assert_eq!(extra.validation_errors(), Vec::<String>::new());
        let other = Cli { name: "acme".to_owned(), ..extra.clone() };
        recipe.add_tools_and_packages(&[extra.clone(), other], &["gh".to_owned()]);
        assert!(recipe.packages.iter().any(|name| name == "gh"));
        assert!(recipe.required_paths.iter().any(|path| path == "usr/bin/gh"));
        assert_eq!(recipe.clis.len(), known + 1);
        assert_eq!(recipe.clis.iter().filter(|cli| cli.name == extra.name).collect::<Vec<_>>(), [&extra]);
        let bad = Cli {
            name: "../sh".to_owned(),
            version: String::new(),
            package: "--help".to_owned(),
            integrity: "sha1-x".to_owned(),
            executable: "/etc/passwd".to_owned(),
            ..extra
        };
        assert_eq!(bad.validation_errors().len(), 5, "{:?}", bad.validation_errors());
    }

    #[test]
    fn extra_program_replaces_the_tool_of_its_name() {
        let mut recipe = Recipe::parse_embedded().unwrap();
        let file = ExtraFile {
            source: "/srv/gemini".into(),
            sha256: "a".repeat(64),
            path: "/usr/local/bin/gemini".to_owned(),
            mode: "0755".to_owned(),
            version: Some("1.0".to_owned()),
        };
        recipe.replace_tools(&[file]);
        assert!(
            recipe.clis.iter().all(|cli| cli.name != "gemini") && recipe.clis.iter().any(|cli| cli.name == "codex")
        );
        assert!(!recipe.required_paths.iter().any(|path| path.starts_with("usr/local/lib/gemini/")));
    }

    #[test]
    fn browser_policy_is_json_and_exempts_only_anteroom_test_from_https() {
        let policy = GUEST_FILES.iter().find(|file| file.path.ends_with("anteroom.json")).unwrap();
        let policy: serde_json::Value = serde_json::from_slice(policy.content).unwrap();
        assert_eq!(policy["HttpAllowlist"], serde_json::json!(["[*.]anteroom.test"]));
        assert_eq!(policy["PasswordManagerEnabled"], false);
    }

    /// Each of these makes Chromium call its vendor's hosts, which would be refused and be on every session's timeline.
    #[test]
    fn browser_policy_switches_off_what_calls_the_vendor() {
        let policy = GUEST_FILES.iter().find(|file| file.path.ends_with("anteroom.json")).unwrap();
        let policy: serde_json::Value = serde_json::from_slice(policy.content).unwrap();
        for name in [
            "AlternateErrorPagesEnabled",
            "BrowserNetworkTimeQueriesEnabled",
            "ComponentUpdatesEnabled",
            "MetricsReportingEnabled",
            "PasswordLeakDetectionEnabled",
            "SearchSuggestEnabled",
            "SpellCheckServiceEnabled",
            "TranslateEnabled",
            "UrlKeyedAnonymizedDataCollectionEnabled",
        ] {
            assert_eq!(policy[name], false, "{name}");
        }
        assert_eq!(policy["SyncDisabled"], true);
        for (name, off) in [("BrowserSignin", 0), ("SafeBrowsingProtectionLevel", 0), ("NetworkPredictionOptions", 2)] {
            assert_eq!(policy[name], off, "{name}");
        }
    }

    #[test]
    fn r26_image_has_fonts_for_chinese_japanese_korean_and_emoji() {
        let recipe = Recipe::parse_embedded().unwrap();
        for package in ["fonts-droid-fallback", "fonts-noto-color-emoji"] {
            assert!(recipe.packages.iter().any(|name| name == package), "{package}");
        }
    }

    fn providers() -> Vec<anteroom_wire::provider::Provider> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let descriptors = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        descriptors.map(|path| toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).collect()
    }

    /// Tools that have a descriptor and are not in the image; `docs/providers.md` describes how an operator adds one.
    const DESCRIBED_NOT_INSTALLED: [&str; 4] = ["copilot", "gh", "opencode", "qwen"];

    #[test]
    fn every_provider_is_valid_and_its_tool_is_in_the_image_or_listed_as_not_installed() {
        let recipe = Recipe::parse_embedded().unwrap();
        let providers = providers();
        let installed = |tool: &str| tool == "anteroom-demo" || recipe.clis.iter().any(|cli| cli.name == tool);
        for provider in &providers {
            assert_eq!(provider.validation_errors(), Vec::<String>::new(), "{}", provider.id.as_str());
            assert_eq!(provider.argv[0], provider.cli);
        }
        let all: BTreeSet<&str> = providers.iter().map(|provider| provider.cli.as_str()).collect();
        let left_out: BTreeSet<&str> = all.iter().copied().filter(|tool| !installed(tool)).collect();
        assert_eq!(left_out, BTreeSet::from(DESCRIBED_NOT_INSTALLED));
        for cli in &recipe.clis {
            assert!(all.contains(cli.name.as_str()), "{} is in the image and has no descriptor", cli.name);
        }
    }

    #[test]
    fn provider_patterns_find_url_and_code_on_the_screens_of_the_pinned_tools() {
        let codex = [
            "Welcome to Codex [v0.171.0]",
            "1. Open this link in your browser and sign in to your account",
            "   https://auth.openai.com/codex/device",
            "2. Enter this one-time code (expires in 15 minutes)",
            "   ABCD-12345",
            "Continue only if you started this login in Codex.",
        ];
        let claude = [
            "If the browser didn't open, visit:",
            "https://claude.ai/oauth/authorize?z-kTS4fKNUfzT9amHTotBT9FSKS-ByR274h_vIONPU6DQ",
            "Paste code here if prompted >",
        ];
        let demo =
            ["If your browser did not open, go to:", "http://id.anteroom.test/authorize?response_type=code&state=x"];
        for (id, screen, address, code) in [
            ("codex", &codex[..], codex[2].trim(), Some("ABCD-12345")),
            ("claude_code", &claude, claude[1], None),
            ("demo", &demo, demo[1], None),
        ] {
            let provider = providers().into_iter().find(|provider| provider.id.as_str() == id).unwrap();
            let find = |pattern: &Option<String>| {
                let pattern = regex_lite::Regex::new(pattern.as_deref()?).unwrap();
                let found = screen.iter().rev().find_map(|line| pattern.captures(line))?;
                Some(found.get(1).or_else(|| found.get(0))?.as_str().to_owned())
            };
            assert_eq!(find(&provider.sign_in.url).as_deref(), Some(address), "{id}");
            assert_eq!(find(&provider.sign_in.code).as_deref(), code, "{id}");
        }
    }
}

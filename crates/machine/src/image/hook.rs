//! Runs an operator's script in the root directory of an image that is being built: by mmdebstrap, after the packages are installed and
//! before the filter. `image/hook.pl` confines it. Its output is found in mmdebstrap's by two lines around it.

use super::{
    build_command::Tail,
    build_error::BuildError,
    extra_files::{Hook, VerifiedFile},
    progress::BuildStep,
    store,
};
use parking_lot::Mutex;
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The path of the script in the image while it runs.
pub(super) const HOOK_PATH: &str = "/run/anteroom-hook";
/// The longest run of a hook, seconds.
pub const HOOK_S_MAX: u64 = 600;
/// How long the processes of a hook have after SIGTERM, seconds.
const HOOK_KILL_S: u64 = 5;
/// The first exit code with which a shell reports a signal, minus one.
const SIGNAL_BASE: i32 = 128;

const CONFINE: &str = include_str!("../../../../image/hook.pl");
const CONFINE_FILE: &str = "hook.pl";
/// The beginning of the last line of `image/hook.pl` when the script was not started.
const NOT_STARTED: &str = "the hook cannot be ";
/// What programs print that need a network and have none, in lower case.
const WITHOUT_NETWORK: [&str; 9] = [
    "could not resolve",
    "couldn't resolve",
    "name resolution",
    "name or service not known",
    "network is unreachable",
    "unable to resolve",
    "failure resolving",
    "enotfound",
    "eai_again",
];

/// A hook of a build: its verified script, and what is known of its run.
pub(super) struct HookRun {
    hook: Hook,
    /// The verified copy of the script.
    copy: PathBuf,
    /// Begins the lines before and after the script's output. The script does not know it.
    marker: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    started_at: Option<Instant>,
    tail: Tail,
    /// The exit code of the confined command, and how long it ran.
    ended: Option<(i32, Duration)>,
}

impl HookRun {
    /// A run of the script whose verified copy is `copy`.
    ///
    /// # Errors
    /// The host has no random numbers.
    pub(super) fn new(hook: &Hook, copy: PathBuf) -> io::Result<Self> {
        let marker = format!("anteroom-hook-{}", store::random_name()?);
        Ok(Self { hook: hook.clone(), copy, marker, seen: Mutex::default() })
    }

    /// mmdebstrap's options that run the script, with `files` at their paths: the script may use them. The filter replaces these files
    /// by the verified ones in any case. `dir` is a directory of the build that all users can traverse.
    ///
    /// # Errors
    /// A file of the build cannot be written.
    pub(super) fn options(&self, dir: &Path, files: &[VerifiedFile]) -> Result<Vec<OsString>, BuildError> {
        let confine = dir.join(CONFINE_FILE);
        let not_written = |source| BuildError::Io { step: BuildStep::Packages, path: confine.clone(), source };
        let readable = || fs::set_permissions(&confine, fs::Permissions::from_mode(0o644));
        fs::write(&confine, CONFINE).and_then(|()| readable()).map_err(not_written)?;
        let plain = |path: &Path| -> Result<String, BuildError> {
            let text = path.to_str().filter(|text| !text.contains(['\'', '\n']));
            let why = || not_written(io::Error::other(format!("the hook cannot be run: {path:?} has a quote")));
            text.map(|text| format!("'{text}'")).ok_or_else(why)
        };
        let mut options = Vec::new();
        let mut add = |text: String| options.push(OsString::from(format!("--customize-hook={text}")));
        for VerifiedFile { copy, guest_path, mode } in files {
            // The paths in the guest have no character that a shell interprets.
            let parent = guest_path.rsplit_once('/').map_or("", |(parent, _)| parent);
            add(format!("mkdir -p \"$1/{parent}\""));
            add(format!("upload {} '/{guest_path}'", plain(copy)?));
            add(format!("chmod {mode:o} \"$1/{guest_path}\""));
        }
        add(format!("upload {} {HOOK_PATH}", plain(&self.copy)?));
        add(format!("chmod 700 \"$1{HOOK_PATH}\""));
        let command = confined_command(&plain(&confine)?, self.hook.network).join(" ");
        let marker = &self.marker;
        add(format!(
            "echo '{marker} begins' >&2; {command} \"$1\" >&2; code=$?; printf '\\n{marker} %s\\n' \"$code\" >&2; exit \"$code\""
        ));
        add(format!("rm -f \"$1{HOOK_PATH}\""));
        Ok(options)
    }

    /// Takes a line that mmdebstrap printed.
    pub(super) fn on_line(&self, line: &str) {
        let mut seen = self.seen.lock();
        match (line.trim().strip_prefix(&self.marker), seen.started_at) {
            (Some(" begins"), None) => seen.started_at = Some(Instant::now()),
            (Some(code), Some(started_at)) if seen.ended.is_none() => {
                seen.ended = code.trim().parse().ok().map(|code| (code, started_at.elapsed()));
            }
            (None, Some(_)) if seen.ended.is_none() => seen.tail.push(line),
            (Some(_), _) | (None, _) => {}
        }
    }

    /// Why the script failed; `None`: it has not.
    pub(super) fn failure(&self) -> Option<BuildError> {
        let mut seen = self.seen.lock();
        let (code, took) = seen.ended.filter(|(code, _)| *code != 0)?;
        let last_lines = std::mem::take(&mut seen.tail).into_lines();
        let not_started = last_lines.last().is_some_and(|line| line.starts_with(NOT_STARTED));
        let what = match code {
            _ if not_started => "could not be started".to_owned(),
            _ if took >= Duration::from_secs(HOOK_S_MAX) => format!("did not end within {HOOK_S_MAX} s"),
            signal if signal > SIGNAL_BASE => format!("was ended by signal {}", signal - SIGNAL_BASE),
            code => format!("failed with exit code {code}"),
        };
        let needs_network = |line: &String| {
            let line = line.to_ascii_lowercase();
            WITHOUT_NETWORK.iter().any(|words| line.contains(words))
        };
        let without_network = !self.hook.network && last_lines.iter().any(needs_network);
        Some(BuildError::HookFailed { script: self.hook.script.clone(), what, last_lines, without_network })
    }
}

/// The command that runs the script confined; the root directory is its last argument.
fn confined_command(confine: &str, has_network: bool) -> Vec<String> {
    let namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"];
    let network = (!has_network).then_some("--net");
    let timeout =
        ["timeout".to_owned(), format!("--kill-after={HOOK_KILL_S}"), HOOK_S_MAX.to_string(), "unshare".to_owned()];
    let unshare = namespaces.into_iter().chain(network).map(str::to_owned);
    timeout.into_iter().chain(unshare).chain(["perl".to_owned(), confine.to_owned()]).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests run the hook as mmdebstrap does")]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

    /// A root directory with perl and its libraries, and this script as the hook.
    fn root(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let libraries = Command::new("ldd").arg("/usr/bin/perl").output().unwrap();
        let text = String::from_utf8(libraries.stdout).unwrap();
        let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain(["/usr/bin/perl"]) {
            let to = dir.path().join(&path[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        for name in ["run", "proc", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let hook = dir.path().join(&HOOK_PATH[1..]);
        fs::write(&hook, format!("#!/usr/bin/perl\n{script}")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    /// A run of a script of these settings.
    fn hook_run(copy: &str, network: bool) -> HookRun {
        HookRun::new(&Hook { script: "/srv/prepare.sh".into(), sha256: String::new(), network }, copy.into()).unwrap()
    }

    /// Runs the hook as mmdebstrap does; its exit code, its output, and the error of the build.
    fn run(root: &Path, network: bool) -> (Option<i32>, String, Option<BuildError>) {
        let scratch = tempfile::tempdir().unwrap();
        let hook = hook_run("/s/hook", network);
        let options = hook.options(scratch.path(), &[]).unwrap();
        let mut options = options.iter().map(|option| option.to_str().unwrap().trim_start_matches("--customize-hook="));
        let command = options.find(|option| option.contains("unshare")).unwrap();
        let mut command_line = Command::new("sh");
        command_line.args(["-c", command, "exec"]).arg(root).env("SECRET", "of the builder");
        let done = command_line.output().unwrap();
        assert_eq!(done.stdout, b"", "standard output carries the image");
        let output = String::from_utf8(done.stderr).unwrap();
        output.lines().for_each(|line| hook.on_line(line));
        let words = output.lines().filter(|line| !line.is_empty() && !line.starts_with(&hook.marker));
        (done.status.code(), words.collect::<Vec<_>>().join("\n"), hook.failure())
    }

    #[test]
    fn hook_changes_the_image_and_reaches_neither_this_host_nor_its_network() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "of this host").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            r#"
            open my $file, ">", "/opt-is-made" or die; print $file "made"; close $file;
            print "secret\n" if -e "{secret}";
            print "variable\n" if exists $ENV{{SECRET}};
            print "open file\n" if grep {{ open my $f, "<&=", $_ }} 3 .. 63;
            socket(my $s, 2, 1, 0) or die; print "network\n" if connect($s, pack("S n C4 x8", 2, {port}, 127, 0, 0, 1));
            my ($device, $none, $tmp, $tmpfs) = ("/device", "none", "/tmp", "tmpfs");
            print "device\n" if syscall(133, $device, 0x2000 | 0600, 0x103) == 0;
            print "mount\n" if syscall(165, $none, $tmp, $tmpfs, 0, 0) == 0;
            print "null\n" unless -c "/dev/null";
            chroot("/tmp") and print "chroot\n";
            "#,
            secret = secret.display(),
        );
        let root = root(&script);
        let (code, output, error) = run(root.path(), false);
        assert_eq!((code, output.as_str()), (Some(0), ""), "nothing of the host was reached");
        assert!(error.is_none());
        assert_eq!(fs::read_to_string(root.path().join("opt-is-made")).unwrap(), "made");
        assert!(!root.path().join("dev/null").exists(), "mounts of the hook are not part of the image");
        let (code, output, _) = run(root.path(), true);
        assert_eq!((code, output.trim()), (Some(0), "network"), "only if it is declared");
    }

    #[test]
    fn failing_hook_is_reported_with_its_script_its_code_and_its_words() {
        let text_of = |root: &Path, network| {
            let (code, _, error) = run(root, network);
            (code, error.expect("it failed").to_string())
        };
        let (code, text) = text_of(root("print STDERR \"one\\n\"; print \"no licence\"; exit 9;").path(), false);
        assert_eq!(code, Some(9));
        for part in ["\"/srv/prepare.sh\"", "[image.hook]", "failed with exit code 9", "\n    one\n    no licence"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("network") && !text.contains("anteroom-hook"), "{text}");
        let (_, killed) = text_of(root("kill 9, 0").path(), false);
        assert!(killed.contains("was ended by signal 9"), "{killed}");
        let words = "print STDERR \"curl: (6) Could not resolve host: a.example\\n\"; exit 6;";
        let (_, without) = text_of(root(words).path(), false);
        assert!(without.contains("`network = false`") && without.contains("`network = true`"), "{without}");
        assert!(!text_of(root(words).path(), true).1.contains("`network"), "it had one");
        let missing = tempfile::tempdir().unwrap();
        let (code, text) = text_of(missing.path(), false);
        assert_eq!((code, text.contains("could not be started")), (Some(126), true), "{text}");
        let other = root("");
        fs::write(other.path().join(&HOOK_PATH[1..]), "#!/usr/bin/python3\n").unwrap();
        let (code, text) = text_of(other.path(), false);
        assert_eq!(code, Some(126));
        assert!(text.contains("could not be started") && text.contains("interpreter"), "{text}");
    }

    #[test]
    fn options_have_the_files_before_the_script_and_no_network_unless_declared() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            VerifiedFile { copy: dir.path().join("extra-0"), guest_path: "opt/acme/run".to_owned(), mode: 0o755 };
        let options = |network| {
            let options = hook_run("/s/hook", network).options(dir.path(), std::slice::from_ref(&file)).unwrap();
            options.into_iter().map(|option| option.into_string().unwrap()).collect::<Vec<_>>()
        };
        let without = options(false);
        let at = |part: &str| without.iter().position(|option| option.contains(part)).unwrap();
        assert!(at("'/opt/acme/run'") < at("unshare") && at("unshare") < at("rm -f"), "{without:?}");
        assert!(without.iter().any(|option| option.contains("--net ")) && !options(true).join(" ").contains("--net"));
        assert!(hook_run("/it's", false).options(dir.path(), &[]).is_err());
    }
}

//! Runs an operator's script in the root directory of an image that is being built: by mmdebstrap, after the packages are installed and
//! before the filter. `image/hook.pl` confines it.

use super::{build_error::BuildError, extra_files::VerifiedFile, progress::BuildStep};
use std::{ffi::OsString, fs, io, path::Path};

/// The path of the script in the image while it runs.
pub(super) const HOOK_PATH: &str = "/run/anteroom-hook";
/// The longest run of a hook, seconds.
pub const HOOK_S_MAX: u64 = 600;
/// How long the processes of a hook have after SIGTERM, seconds.
const HOOK_KILL_S: u64 = 5;

const CONFINE: &str = include_str!("../../../../image/hook.pl");
const CONFINE_FILE: &str = "hook.pl";

/// mmdebstrap's options that run the verified script `hook`, with `files` at their paths: the script may use them. The filter replaces
/// these files by the verified ones in any case. `scratch` is the temporary directory of the build.
///
/// # Errors
/// A file of the build cannot be written.
pub(super) fn hook_options(
    scratch: &Path,
    hook: &Path,
    has_network: bool,
    files: &[VerifiedFile],
) -> Result<Vec<OsString>, BuildError> {
    let confine = scratch.join(CONFINE_FILE);
    let not_written = |source| BuildError::Io { step: BuildStep::Packages, path: confine.clone(), source };
    fs::write(&confine, CONFINE).map_err(not_written)?;
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
    add(format!("upload {} {HOOK_PATH}", plain(hook)?));
    add(format!("chmod 700 \"$1{HOOK_PATH}\""));
    add(format!("{} \"$1\" >&2", confined_command(&plain(&confine)?, has_network).join(" ")));
    add(format!("rm -f \"$1{HOOK_PATH}\""));
    Ok(options)
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

    /// Runs the hook as mmdebstrap does; its exit code and its output.
    fn run(root: &Path, has_network: bool) -> (Option<i32>, String) {
        let scratch = tempfile::tempdir().unwrap();
        let confine = scratch.path().join(CONFINE_FILE);
        fs::write(&confine, CONFINE).unwrap();
        let command = confined_command(confine.to_str().unwrap(), has_network);
        let mut command_line = Command::new(&command[0]);
        let done = command_line.args(&command[1..]).arg(root).env("SECRET", "of the builder").output().unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout),
        )
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
        let (code, output) = run(root.path(), false);
        assert_eq!((code, output.as_str()), (Some(0), ""), "nothing of the host was reached");
        assert_eq!(fs::read_to_string(root.path().join("opt-is-made")).unwrap(), "made");
        assert!(!root.path().join("dev/null").exists(), "mounts of the hook are not part of the image");
        let (code, output) = run(root.path(), true);
        assert_eq!((code, output.trim()), (Some(0), "network"), "only if it is declared");
    }

    #[test]
    fn failing_hook_is_reported_with_its_code_and_its_words() {
        let (code, output) = run(root("print STDERR \"no licence\\n\"; exit 9;").path(), false);
        assert_eq!((code, output.contains("no licence")), (Some(9), true), "{output}");
        let missing = tempfile::tempdir().unwrap();
        let (code, output) = run(missing.path(), false);
        assert_eq!((code, output.contains("cannot be confined")), (Some(125), true), "{output}");
    }

    #[test]
    fn options_have_the_files_before_the_script_and_no_network_unless_declared() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            VerifiedFile { copy: dir.path().join("extra-0"), guest_path: "opt/acme/run".to_owned(), mode: 0o755 };
        let options = |has_network| {
            let options =
                hook_options(dir.path(), Path::new("/s/hook"), has_network, std::slice::from_ref(&file)).unwrap();
            options.into_iter().map(|option| option.into_string().unwrap()).collect::<Vec<_>>()
        };
        let without = options(false);
        let at = |part: &str| without.iter().position(|option| option.contains(part)).unwrap();
        assert!(at("'/opt/acme/run'") < at("unshare") && at("unshare") < at("rm -f"), "{without:?}");
        assert!(without.iter().any(|option| option.contains("--net ")) && !options(true).join(" ").contains("--net"));
        assert!(hook_options(dir.path(), Path::new("/it's"), false, &[]).is_err());
    }
}

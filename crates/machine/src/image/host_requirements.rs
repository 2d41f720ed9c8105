//! The build's requirements on this host. All missing ones are reported at once, with the commands that provide them.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A requirement of the build that this host does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRequirement {
    /// Its name.
    pub what: String,
    /// The purpose.
    pub why: String,
    /// A command that provides it (Debian, Ubuntu).
    pub remedy: String,
    /// The Debian package, where one provides it; see [`apt_install_command`].
    pub package: Option<&'static str>,
}

/// Programs: name, package, purpose.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("mmdebstrap", "mmdebstrap", "installs the guest's packages"),
    ("apt-get", "apt", "downloads the guest's packages"),
    ("mksquashfs", "squashfs-tools", "packs the guest's root file system"),
    ("npm", "npm", "downloads the command-line tools"),
    ("xz", "xz-utils", "unpacks the guest's kernel modules"),
    ("zstd", "zstd", "unpacks the guest's kernel"),
];
/// Programs that only unprivileged users need.
const USER_PROGRAMS: &[(&str, &str, &str)] = &[
    ("newuidmap", "uidmap", "lets an unprivileged user install packages into a directory"),
    ("newgidmap", "uidmap", "lets an unprivileged user install packages into a directory"),
];
const KEYRINGS: &[&str] =
    &["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];
/// Number of subordinate ids that own the guest's files during installation.
const IDS: u64 = 65536;

/// All requirements that this host does not meet; empty if the build can run.
pub fn find_missing_requirements() -> Vec<MissingRequirement> {
    let user = (!rustix::process::geteuid().is_root())
        .then(|| User { name: user_name(), uid: rustix::process::geteuid().as_raw() });
    let paths: Vec<PathBuf> = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    Host { paths, root: PathBuf::from("/"), user }.missing()
}

/// One `apt-get install` command for all requirements that Debian packages provide.
pub fn apt_install_command(missing: &[MissingRequirement]) -> Option<String> {
    let mut packages: Vec<&str> = missing.iter().filter_map(|missing| missing.package).collect();
    packages.sort_unstable();
    packages.dedup();
    (!packages.is_empty()).then(|| format!("sudo apt-get install --no-install-recommends {}", packages.join(" ")))
}

/// The keyring of the distribution on this host.
pub(super) fn debian_keyring_path() -> Option<&'static Path> {
    KEYRINGS.iter().map(Path::new).find(|path| path.is_file())
}

struct User {
    name: Option<String>,
    uid: u32,
}

/// The host that is checked; tests use a directory as its root.
struct Host {
    paths: Vec<PathBuf>,
    root: PathBuf,
    /// `None`: root.
    user: Option<User>,
}

impl Host {
    fn missing(&self) -> Vec<MissingRequirement> {
        let programs = PROGRAMS.iter().chain(USER_PROGRAMS.iter().filter(|_| self.user.is_some()));
        let mut missing: Vec<MissingRequirement> = programs
            .filter(|(program, ..)| !self.has(program))
            .map(|&(program, package, why)| from_package(program, package, why))
            .collect();
        if !KEYRINGS.iter().any(|path| self.at(path).is_file()) {
            missing.push(from_package(
                KEYRINGS[0],
                "debian-archive-keyring",
                "the keys that the guest's packages are signed with",
            ));
        }
        if let Some(user) = &self.user {
            missing.extend(["/etc/subuid", "/etc/subgid"].into_iter().filter_map(|file| self.ids(file, user)));
            missing.extend(self.namespaces());
        }
        missing
    }

    fn has(&self, program: &str) -> bool {
        self.paths.iter().any(|dir| {
            fs::metadata(dir.join(program)).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
    }

    /// A range of subordinate ids (subuid(5)) for the user.
    fn ids(&self, file: &str, user: &User) -> Option<MissingRequirement> {
        let text = fs::read_to_string(self.at(file)).unwrap_or_default();
        let uid = user.uid.to_string();
        let enough = text.lines().any(|line| {
            let mut fields = line.split(':');
            let owner = fields.next().unwrap_or_default();
            let count = fields.nth(1).and_then(|count| count.trim().parse().ok()).unwrap_or(0u64);
            (owner == uid || Some(owner) == user.name.as_deref()) && count >= IDS
        });
        let name = user.name.as_deref().unwrap_or(&uid);
        let option = if file.ends_with("subuid") { "--add-subuids" } else { "--add-subgids" };
        (!enough).then(|| MissingRequirement {
            what: format!("{IDS} ids for {name} in {file}"),
            why: "the guest's files belong to several users, for which an unprivileged user needs subordinate ids"
                .into(),
            remedy: format!("sudo usermod {option} 100000-165535 {name}"),
            package: None,
        })
    }

    /// A kernel setting that prevents unprivileged users from creating user namespaces.
    fn namespaces(&self) -> Option<MissingRequirement> {
        const SWITCHES: [(&str, &str); 2] = [
            ("/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1"),
            ("/proc/sys/user/max_user_namespaces", "user.max_user_namespaces=65536"),
        ];
        let off = |file: &str| fs::read_to_string(self.at(file)).is_ok_and(|text| text.trim() == "0");
        let (_, key) = SWITCHES.into_iter().find(|(file, _)| off(file))?;
        Some(MissingRequirement {
            what: "user namespaces for unprivileged users".into(),
            why: "packages are installed inside one".into(),
            remedy: format!("sudo sysctl -w {key}"),
            package: None,
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn from_package(what: &str, package: &'static str, why: &str) -> MissingRequirement {
    MissingRequirement {
        what: what.into(),
        why: why.into(),
        remedy: format!("sudo apt-get install --no-install-recommends {package}"),
        package: Some(package),
    }
}

/// The user's name from passwd(5). The environment is not used, because `su` may leave another user's name there.
fn user_name() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(user: bool) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let user = user.then(|| User { name: Some("ada".into()), uid: 1001 });
        let host = Host { paths: vec![root.path().join("bin")], root: root.path().to_owned(), user };
        (root, host)
    }

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn all_missing_requirements_are_reported_with_one_install_command() {
        let (_root, host) = host(true);
        let missing = host.missing();
        let line = apt_install_command(&missing).unwrap();
        for package in ["mmdebstrap", "squashfs-tools", "npm", "uidmap", "debian-archive-keyring", "xz-utils", "zstd"] {
            assert!(line.contains(package), "{package} is not in {line}");
        }
        assert_eq!(line.matches("uidmap").count(), 1);
        assert!(missing.iter().any(|missing| missing.what.contains("/etc/subgid")));
        assert!(missing.iter().all(|missing| !missing.remedy.is_empty() && !missing.why.is_empty()));
    }

    #[test]
    fn complete_host_meets_all_requirements_as_user_and_as_root() {
        for as_user in [true, false] {
            let (root, host) = host(as_user);
            for (program, ..) in PROGRAMS.iter().chain(USER_PROGRAMS) {
                put(root.path(), &format!("bin/{program}"), "");
            }
            put(root.path(), KEYRINGS[0].trim_start_matches('/'), "");
            put(root.path(), "etc/subuid", "ada:100000:65536\n");
            put(root.path(), "etc/subgid", "1001:100000:65536\n");
            assert_eq!(host.missing(), []);
            assert_eq!(apt_install_command(&host.missing()), None);
        }
    }

    #[test]
    fn id_range_of_another_user_or_a_short_range_does_not_count() {
        let (root, host) = host(true);
        put(root.path(), "etc/subuid", "eve:100000:65536\nada:100000:1000\n");
        let user = host.user.as_ref().unwrap();
        assert!(host.ids("/etc/subuid", user).unwrap().remedy.contains("usermod --add-subuids 100000-165535 ada"));
    }

    #[test]
    fn root_needs_no_subordinate_ids() {
        let (_root, host) = host(false);
        assert!(
            host.missing().iter().all(|missing| !missing.what.contains("newuidmap") && !missing.what.contains("ids"))
        );
    }

    #[test]
    fn kernel_without_unprivileged_user_namespaces_is_reported() {
        let (root, host) = host(true);
        put(root.path(), "proc/sys/kernel/unprivileged_userns_clone", "0\n");
        assert!(host.namespaces().unwrap().remedy.contains("unprivileged_userns_clone=1"));
    }
}

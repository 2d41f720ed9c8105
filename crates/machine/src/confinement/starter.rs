//! The user that starts a VMM, and what the host allows to it.

use super::layers::LayerStatus;
use std::{fs, io};

/// On the host, a VMM that the superuser starts has an id in this range, which no system allocates (systemd, "UIDS-GIDS":
/// from 0x70000000 on unused).
const FIRST_FOREIGN_USER: u32 = 0x7000_0000;
const FOREIGN_USERS: u32 = 0x0fff_0000;

/// The user that starts a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// The superuser of the host: its VMMs get ids that own nothing.
    Superuser,
    /// The superuser of a user namespace that has no such ids, for example of a container.
    NamespaceSuperuser,
    /// Every other user: its VMMs keep its id.
    OrdinaryUser,
}

impl Starter {
    /// The user of this process.
    pub(super) fn of_this_process() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::OrdinaryUser;
        }
        let map = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        if maps_foreign_users(&map("uid_map")) && maps_foreign_users(&map("gid_map")) {
            Self::Superuser
        } else {
            Self::NamespaceSuperuser
        }
    }

    /// The id of a VMM's user on this host; `None`: it keeps the id of its starter.
    pub(super) fn foreign_user(self, number: u32) -> Option<u32> {
        match self {
            Self::Superuser => Some(FIRST_FOREIGN_USER + number % FOREIGN_USERS),
            Self::NamespaceSuperuser | Self::OrdinaryUser => None,
        }
    }

    /// The layer [`super::Layer::User`].
    pub(super) fn user_layer(self) -> LayerStatus {
        let why = match self {
            Self::Superuser => return LayerStatus::On,
            Self::NamespaceSuperuser => {
                "the user namespace of this container maps no user id that owns nothing, so a VMM keeps its server's id"
            }
            Self::OrdinaryUser => "the server does not run as the superuser, so a VMM keeps its server's user id",
        };
        LayerStatus::off(why, "start the server as the superuser of the host; the other layers do not need it")
    }
}

/// Whether `map` (uid_map or gid_map, user_namespaces(7)) contains all ids of [`FIRST_FOREIGN_USER`]'s range.
fn maps_foreign_users(map: &str) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(length))) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        first <= u64::from(FIRST_FOREIGN_USER)
            && first.saturating_add(length) >= u64::from(FIRST_FOREIGN_USER) + u64::from(FOREIGN_USERS)
    })
}

/// Why this host refuses user namespaces, and how to allow them. `error`: of the attempt.
pub(super) fn user_namespaces_off(error: &io::Error) -> LayerStatus {
    let setting = |path: &str| fs::read_to_string(format!("/proc/sys/{path}")).ok();
    refusal(error, &setting)
}

fn refusal(error: &io::Error, setting: &dyn Fn(&str) -> Option<String>) -> LayerStatus {
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found.trim() == value);
    let switched_off = |name: &str, value: &str, command: &str| {
        LayerStatus::off(format!("this host has {name}={value}: {error}"), format!("run `sysctl -w {command}`"))
    };
    match setting("user/max_user_namespaces").as_deref().map(str::trim) {
        None => {
            return LayerStatus::off(
                format!("the kernel has no user namespaces: {error}"),
                "use a kernel with CONFIG_USER_NS",
            );
        }
        Some("0") => return switched_off("user.max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        Some(_) => {}
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return switched_off("kernel.unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1");
    }
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return LayerStatus::off(
            format!("AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns=1): {error}"),
            "install an AppArmor profile for the server that has `userns,`, or run \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
        );
    }
    LayerStatus::off(
        format!("this host refuses user namespaces or mounts in them: {error}"),
        "if the server runs in a container, allow it clone(2) with CLONE_NEWUSER and mount(2)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_with_all_foreign_ids_is_that_of_the_superuser() {
        assert!(maps_foreign_users("         0          0 4294967295\n"));
        assert!(!maps_foreign_users("         0       1000          1\n         1     100000      65536\n"));
        assert!(!maps_foreign_users("0 0 1879048192\n"), "only the ids below the range");
        assert!(!maps_foreign_users("") && !maps_foreign_users("no map"));
    }

    #[test]
    fn refused_user_namespace_names_the_setting_and_the_command() {
        let error = io::Error::from_raw_os_error(1);
        let status = |settings: &[(&str, &str)]| {
            let setting =
                |path: &str| settings.iter().find(|(name, _)| *name == path).map(|(_, value)| format!("{value}\n"));
            let LayerStatus::Off { why, remedy } = refusal(&error, &setting) else { panic!() };
            (why, remedy)
        };
        let (why, remedy) = status(&[("user/max_user_namespaces", "0")]);
        assert!(why.contains("user.max_user_namespaces=0") && remedy.contains("sysctl -w user.max_user_namespaces="));
        let allowed = ("user/max_user_namespaces", "96365");
        let (why, remedy) = status(&[allowed, ("kernel/unprivileged_userns_clone", "0")]);
        assert!(
            why.contains("kernel.unprivileged_userns_clone=0") && remedy.contains("kernel.unprivileged_userns_clone=1")
        );
        let (why, remedy) = status(&[allowed, ("kernel/apparmor_restrict_unprivileged_userns", "1")]);
        assert!(why.contains("AppArmor") && remedy.contains("profile"));
        assert!(
            status(&[allowed]).0.contains("Operation not permitted") && status(&[]).0.contains("no user namespaces")
        );
    }
}

//! Whether `/dev/kvm` can be opened, and if not, what to do.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
};

/// The device.
pub(super) const KVM_DEVICE: &str = "/dev/kvm";
/// The permissions of a file's group to read and write it.
const GROUP_READ_WRITE: u32 = 0o060;

/// Why `/dev/kvm` cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum DeviceFailure {
    /// It does not exist.
    #[error(
        "there is no /dev/kvm: enable virtualization in the firmware, or nested virtualization for a virtual machine, and load \
         the module kvm_intel or kvm_amd"
    )]
    Absent,
    /// This user has no permission.
    #[error("the user {user} may not open /dev/kvm: {access}")]
    NotPermitted {
        /// The user's name, or its number.
        user: String,
        /// What its group may do.
        access: GroupAccess,
    },
    /// Another error.
    #[error("/dev/kvm cannot be opened: {error}; check the kernel's messages with `sudo dmesg | grep kvm`")]
    CannotOpen {
        /// The error.
        error: String,
    },
}

/// What the group of `/dev/kvm` may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum GroupAccess {
    /// Its members may open the device.
    #[error("the group {group} may; join it with `sudo usermod -aG {group} {user}` and log in again")]
    Granted {
        /// The group's name, or its number.
        group: String,
        /// The user that joins it.
        user: String,
    },
    /// Only the owner of the device may open it.
    #[error(
        "only its owner may; open it to a group with `sudo groupadd -f kvm; sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm`, \
         join it with `sudo usermod -aG kvm {user}` and log in again"
    )]
    OwnerOnly {
        /// The user that joins the group.
        user: String,
    },
}

/// Opens the device and closes it again.
pub(super) fn open() -> Result<(), DeviceFailure> {
    match OpenOptions::new().read(true).write(true).open(KVM_DEVICE) {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(&error)),
    }
}

fn failure(error: &io::Error) -> DeviceFailure {
    if error.kind() == io::ErrorKind::NotFound {
        return DeviceFailure::Absent;
    }
    if error.kind() != io::ErrorKind::PermissionDenied {
        return DeviceFailure::CannotOpen { error: error.to_string() };
    }
    let database = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let user = name_of(&database("/etc/passwd"), rustix::process::geteuid().as_raw());
    // A device that cannot be examined is treated like one that only its owner may open.
    let (group, mode) = fs::metadata(KVM_DEVICE).map_or((0, 0), |device| (device.gid(), device.mode()));
    not_permitted(user, name_of(&database("/etc/group"), group), mode)
}

fn not_permitted(user: String, group: String, mode: u32) -> DeviceFailure {
    // A user should not join the superuser's group.
    let access = if mode & GROUP_READ_WRITE == GROUP_READ_WRITE && group != "root" {
        GroupAccess::Granted { group, user: user.clone() }
    } else {
        GroupAccess::OwnerOnly { user: user.clone() }
    };
    DeviceFailure::NotPermitted { user, access }
}

/// The name of a user or group in the text of passwd(5) or group(5); its number, if it has none.
fn name_of(database: &str, id: u32) -> String {
    let id = id.to_string();
    let name = database.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    name.unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_permission_names_the_group_and_the_command_that_joins_it() {
        let groups = "root:x:0:\nkvm:x:104:qemu\n";
        let sentence = |mode| not_permitted("eve".into(), name_of(groups, 104), mode).to_string();
        assert_eq!(
            sentence(0o20660),
            "the user eve may not open /dev/kvm: the group kvm may; join it with `sudo usermod -aG kvm eve` and log in again"
        );
        for mode in [0o20600, 0o20640, 0o20620] {
            assert!(sentence(mode).contains("only its owner may") && sentence(mode).contains("chmod 660"), "{mode:o}");
        }
    }

    #[test]
    fn user_or_group_without_a_name_is_named_by_its_number() {
        assert_eq!(name_of("root:x:0:0:root:/root:/bin/sh\n", 0), "root");
        assert_eq!(name_of("root:x:0:0:root:/root:/bin/sh\n", 1_234), "1234");
        assert_eq!(name_of("no colon\n::\n", 5), "5");
    }

    #[test]
    fn every_error_of_the_open_has_its_own_cause() {
        assert_eq!(failure(&io::ErrorKind::NotFound.into()), DeviceFailure::Absent);
        assert!(matches!(failure(&io::ErrorKind::PermissionDenied.into()), DeviceFailure::NotPermitted { .. }));
        // The module is loaded, and the processor does not support it.
        let unsupported = failure(&rustix::io::Errno::NODEV.into());
        assert!(unsupported.to_string().contains("No such device"), "{unsupported}");
    }
}

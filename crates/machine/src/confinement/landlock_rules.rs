//! Landlock rules of a VMM: it may execute its program, read and execute libraries below `/usr` unless its program is static,
//! and nothing else. No TCP, no abstract Unix sockets of other processes, no signals to them (landlock(7)).

use super::layers::LayerStatus;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};
use rustix::fd::{BorrowedFd, OwnedFd};

/// The newest version of Landlock whose rights these rules use.
const NEWEST: ABI = ABI::V6;
/// The directories of programs and libraries; on most systems all but the first are links into it.
const READABLE: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

/// The ruleset; `None`: the kernel has no Landlock. Rights that an older kernel does not know are left out. `libraries`: the
/// program is not static.
pub(super) fn ruleset(program: BorrowedFd<'_>, libraries: bool) -> Result<Option<OwnedFd>, RulesetError> {
    let readable: &[&str] = if libraries { &READABLE } else { &[] };
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(program, AccessFs::Execute | AccessFs::ReadFile))?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(NEWEST)))?;
    Ok(rules.into())
}

/// The layer [`super::Layer::Landlock`]. `exists`: the kernel has made a ruleset.
pub(super) fn layer(exists: bool) -> LayerStatus {
    if exists {
        LayerStatus::On
    } else {
        LayerStatus::off(
            "the kernel has no Landlock, or it is not enabled",
            "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and `lsm=landlock,…` on its command line",
        )
    }
}

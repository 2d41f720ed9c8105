//! The configuration of the Debian package's service, which the superuser and the service's user need not name.

use super::Arguments;
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Root and the group of the service may read it.
const PACKAGE_CONFIG_FILE: &str = "/etc/anteroom/anteroom.toml";

/// The configuration file that is given, or the package's, where this user may read it and no directory is given.
pub(super) fn config_file(arguments: &Arguments) -> Option<PathBuf> {
    let is_elsewhere = arguments.state_dir.is_some() || arguments.cache_dir.is_some();
    let of_package = || Some(Path::new(PACKAGE_CONFIG_FILE)).filter(|path| !is_elsewhere && File::open(path).is_ok());
    arguments.config.clone().or_else(|| of_package().map(Path::to_owned))
}

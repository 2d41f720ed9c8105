//! The inputs of a root file system build.

use super::{
    build_settings::BuildSettings,
    extra_files::{ExtraFile, VerifiedFile},
    hook::HookRun,
    progress::OnProgress,
    recipe::Recipe,
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The inputs and directories of one root file system build.
pub(super) struct RootFsBuildParameters<'a> {
    pub(super) recipe: &'a Arc<Recipe>,
    pub(super) settings: &'a BuildSettings,
    /// Name and version of the demo tool; `settings.demo_binary` is its binary.
    pub(super) demo_name_and_version: (&'static str, &'static str),
    /// The temporary directory of this build, in the images directory.
    pub(super) scratch: &'a Path,
    /// Where mmdebstrap unpacks. All users must be able to traverse the directories above it.
    pub(super) packages_dir: &'a Path,
    /// The verified copies of `settings.extra_files`.
    pub(super) extra_files: &'a [VerifiedFile],
    /// The run of the script of `settings.hook`.
    pub(super) hook: Option<&'a HookRun>,
    pub(super) progress: OnProgress,
}

impl RootFsBuildParameters<'_> {
    /// Tool → version, for the guest and the manifest.
    pub(super) fn tool_versions(&self) -> BTreeMap<String, String> {
        let demo = (self.demo_name_and_version.0.to_owned(), self.demo_name_and_version.1.to_owned());
        let clis = self.recipe.clis.iter().map(|cli| (cli.name.clone(), cli.version.clone()));
        clis.chain([demo]).chain(self.settings.extra_files.iter().filter_map(ExtraFile::as_tool)).collect()
    }
}

//! What a root file system is made from.

use super::{build_settings::BuildSettings, progress::OnProgress, recipe::Recipe};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// The inputs and directories of one root file system build.
pub(super) struct BuildContext<'a> {
    pub(super) recipe: &'a Arc<Recipe>,
    pub(super) settings: &'a BuildSettings,
    /// Name and version of the demo tool, whose binary the settings name.
    pub(super) demo: (&'static str, &'static str),
    /// A directory of this build in the images directory.
    pub(super) scratch: &'a Path,
    /// Where mmdebstrap may unpack: any user must be able to pass through the directories above.
    pub(super) packages_dir: &'a Path,
    pub(super) progress: OnProgress,
}

impl BuildContext<'_> {
    /// Tool → version, as the guest and the manifest name them.
    pub(super) fn tool_versions(&self) -> BTreeMap<String, String> {
        let demo = (self.demo.0.to_owned(), self.demo.1.to_owned());
        self.recipe.clis.iter().map(|cli| (cli.name.clone(), cli.version.clone())).chain([demo]).collect()
    }
}

//! What an operator wants in the machines' image beside what the recipe has.

use anteroom_machine::image::Cli;
use serde::{Deserialize, Serialize};

/// The most further tools of one kind.
const TOOLS_MAX: usize = 32;

/// Further tools in the image; they count at the next `anteroom image build`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAdditions {
    /// From the npm registry: `[[image.extra_clis]]`, each as in the recipe. One of the same name takes the recipe's place.
    pub extra_clis: Vec<Cli>,
    /// Debian packages, each a tool whose program is named like the package (`gh`).
    pub extra_packages: Vec<String>,
}

impl ImageAdditions {
    /// Everything wrong with them, one sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let clis = self.extra_clis.iter().enumerate().flat_map(|(at, cli)| {
            let place = format!("image.extra_clis[{at}] {:?}", cli.name);
            cli.faults().into_iter().map(move |fault| format!("{place}: {fault}"))
        });
        let mut faults: Vec<String> = clis.collect();
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
        for name in &self.extra_packages {
            if name.len() < 2 || !name.bytes().all(plain) || name.starts_with(['+', '-', '.']) {
                faults.push(format!("image.extra_packages {name:?} is not the name of a Debian package"));
            }
        }
        for (name, count) in [("extra_clis", self.extra_clis.len()), ("extra_packages", self.extra_packages.len())] {
            if count > TOOLS_MAX {
                faults.push(format!("image.{name} has {count} entries; it may have {TOOLS_MAX}"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn further_tools_are_read_and_their_faults_named_with_their_place() {
        let good = "[image]\nextra_packages = ['gh']\n[[image.extra_clis]]\nname = 'opencode'\nversion = '1.18.33'\n\
                    package = 'opencode-linux-x64@1.18.33'\nintegrity = 'sha512-x'\nexecutable = 'package/bin/opencode'\n";
        let config = Config::parse(good).unwrap();
        assert_eq!(config.image.extra_clis[0].executable, "package/bin/opencode");
        let bad = good.replace("'gh'", "'-o=x', 'G'").replace("sha512-x", "md5").replace("package/bin", "bin/..");
        let faults = Config::parse(&bad).unwrap_err().join("\n");
        for part in [
            "image.extra_clis[0] \"opencode\": integrity",
            "image.extra_clis[0] \"opencode\": executable",
            "image.extra_packages \"-o=x\"",
            "image.extra_packages \"G\"",
        ] {
            assert!(faults.contains(part), "{part} is not in:\n{faults}");
        }
        assert!(Config::parse("[image]\ntools = 1\n").unwrap_err()[0].contains("image.tools"));
    }
}

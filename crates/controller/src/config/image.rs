//! Additional tools in the machines' image.

use crate::settings::settings;
use anteroom_machine::image::Cli;

/// The most additional tools of one kind.
const TOOLS_MAX: usize = 32;

settings! {
    /// Additional tools in the machines' image, for the next `anteroom image build` (docs/providers.md).
    pub struct ImageAdditions {
        /// Debian packages. Each is a tool whose program has the name of the package: `["gh"]`.
        extra_packages: Vec<String> = Vec::new();
        /// Tools from the npm registry, each as in the recipe. A tool of the same name replaces the recipe's.
        extra_clis: Vec<Cli> = Vec::new(), lines r#"[[image.extra_clis]]
name = "opencode"
version = "1.18.33"
package = "opencode-linux-x64@1.18.33"
integrity = "sha512-…"  # npm view opencode-linux-x64@1.18.33 dist.integrity
executable = "package/bin/opencode""#;
    }
}

impl ImageAdditions {
    /// All errors, one sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let clis = self.extra_clis.iter().enumerate().flat_map(|(at, cli)| {
            let setting = format!("image.extra_clis[{at}] {:?}", cli.name);
            cli.validation_errors().into_iter().map(move |error| format!("{setting}: {error}"))
        });
        let mut errors: Vec<String> = clis.collect();
        let is_name_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
        for name in &self.extra_packages {
            if name.len() < 2 || !name.bytes().all(is_name_char) || name.starts_with(['+', '-', '.']) {
                errors.push(format!("image.extra_packages {name:?} is not the name of a Debian package"));
            }
        }
        for (name, count) in [("extra_clis", self.extra_clis.len()), ("extra_packages", self.extra_packages.len())] {
            if count > TOOLS_MAX {
                errors.push(format!("image.{name} has {count} entries; the limit is {TOOLS_MAX}"));
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn additional_tools_are_parsed_and_errors_name_the_setting() {
        let good = "[image]\nextra_packages = ['gh']\n[[image.extra_clis]]\nname = 'opencode'\nversion = '1.18.33'\n\
                    package = 'opencode-linux-x64@1.18.33'\nintegrity = 'sha512-x'\nexecutable = 'package/bin/opencode'\n";
        let config = Config::parse(good).unwrap();
        assert_eq!(config.image.extra_clis[0].executable, "package/bin/opencode");
        let bad = good.replace("'gh'", "'-o=x', 'G'").replace("sha512-x", "md5").replace("package/bin", "bin/..");
        let errors = Config::parse(&bad).unwrap_err().join("\n");
        for part in [
            "image.extra_clis[0] \"opencode\": integrity",
            "image.extra_clis[0] \"opencode\": executable",
            "image.extra_packages \"-o=x\"",
            "image.extra_packages \"G\"",
        ] {
            assert!(errors.contains(part), "{part} is not in:\n{errors}");
        }
        assert!(Config::parse("[image]\ntools = 1\n").unwrap_err()[0].contains("image.tools"));
    }
}

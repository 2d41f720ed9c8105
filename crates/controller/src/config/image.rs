//! Additional tools in the machines' image.

use crate::settings::settings;
use anteroom_machine::image::{Cli, ExtraFile, Hook, collisions};
use std::path::PathBuf;

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
        /// Files of this host in the image, of owner root, below `/usr/local`, `/opt` or `/etc/opt`. A program in `/usr/local/bin` is a tool.
        extra_files: Vec<ExtraFile> = Vec::new(), lines r#"[[image.extra_files]]
source = "/srv/tools/acme"
sha256 = "…"  # sha256sum /srv/tools/acme
path = "/usr/local/bin/acme"
mode = "0755""#;
    }
    sections {
        /// A script that runs in the image while it is built, confined to it, after the packages are installed.
        hook: ImageHook;
    }
}

settings! {
    /// A script that runs in the image while it is built.
    pub struct ImageHook {
        /// The script on this host. Its first line names its interpreter.
        script: Option<PathBuf> = None, example r#""/srv/tools/prepare.sh""#;
        /// Its SHA-256, hexadecimal, as `sha256sum` prints it; another content is rejected.
        sha256: Option<String> = None, example r#""…""#;
        /// Whether it may use this host's network.
        network: bool = false;
    }
}

impl ImageHook {
    /// The script, if one is configured.
    pub fn to_hook(&self) -> Option<Hook> {
        let (script, sha256) = (self.script.clone()?, self.sha256.clone()?);
        Some(Hook { script, sha256, network: self.network })
    }

    fn validate(&self) -> Vec<String> {
        if self.script.is_some() != self.sha256.is_some() {
            return vec!["image.hook needs both script and sha256".to_owned()];
        }
        let errors = self.to_hook().map(|hook| hook.validation_errors()).unwrap_or_default();
        errors.into_iter().map(|error| format!("image.hook: {error}")).collect()
    }
}

impl ImageAdditions {
    /// All errors, one sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let clis = self.extra_clis.iter().enumerate().flat_map(|(at, cli)| {
            let setting = format!("image.extra_clis[{at}] {:?}", cli.name);
            cli.validation_errors().into_iter().map(move |error| format!("{setting}: {error}"))
        });
        let files = self.extra_files.iter().enumerate().flat_map(|(at, file)| {
            let setting = format!("image.extra_files[{at}] {:?}", file.path);
            file.validation_errors().into_iter().map(move |error| format!("{setting}: {error}"))
        });
        let mut errors: Vec<String> = clis.chain(files).chain(self.hook.validate()).collect();
        errors.extend(collisions(&self.extra_files, &self.extra_clis, &self.extra_packages));
        let is_name_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.');
        for name in &self.extra_packages {
            if name.len() < 2 || !name.bytes().all(is_name_char) || name.starts_with(['+', '-', '.']) {
                errors.push(format!("image.extra_packages {name:?} is not the name of a Debian package"));
            }
        }
        for (name, count) in [
            ("extra_clis", self.extra_clis.len()),
            ("extra_packages", self.extra_packages.len()),
            ("extra_files", self.extra_files.len()),
        ] {
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
        let file = format!(
            "[[image.extra_files]]\nsource = '/srv/acme'\nsha256 = '{}'\npath = '/usr/local/bin/acme'\nmode = '0755'\n",
            "a".repeat(64)
        );
        let hook = format!("[image.hook]\nscript = '/srv/hook'\nsha256 = '{}'\n", "b".repeat(64));
        let config = Config::parse(&format!("{file}{hook}")).unwrap();
        assert_eq!(
            (config.image.extra_files[0].mode.as_str(), config.image.hook.to_hook().unwrap().network),
            ("0755", false)
        );
        let bad = format!("{file}{file}{hook}").replace("0755", "4755").replace("/srv/hook", "hook");
        let errors = Config::parse(&bad).unwrap_err().join("\n");
        for part in [
            "image.extra_files[0] \"/usr/local/bin/acme\": mode",
            "image.extra_files[1] \"/usr/local/bin/acme\": another entry has the same path",
            "image.hook: script",
        ] {
            assert!(errors.contains(part), "{part} is not in:\n{errors}");
        }
        assert!(Config::parse("[image]\ntools = 1\n").unwrap_err()[0].contains("image.tools"));
    }
}

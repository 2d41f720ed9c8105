//! Examples of each command, which `--help`, the man pages and docs/cli.md show.

use clap::Command;

/// By the path of the command.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("serve", &["anteroom serve --demo", "anteroom serve --config anteroom.toml --listen 127.0.0.1:7060"]),
    ("status", &["anteroom status", "anteroom status --json"]),
    ("config check", &["anteroom config check anteroom.toml", "anteroom config check --json"]),
    ("config example", &["anteroom config example > anteroom.toml"]),
    ("config show", &["anteroom config show", "anteroom config show --json"]),
    ("webhook list", &["anteroom webhook list"]),
    ("webhook test", &["anteroom webhook test --receiver main"]),
    ("webhook resend", &["anteroom webhook resend msg_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("doctor", &["anteroom doctor", "anteroom doctor --network claude_code", "anteroom doctor --leaks --json"]),
    (
        "auth login",
        &[
            "anteroom auth login https://anteroom.example",
            "anteroom auth login https://anteroom.example --profile work --token-file token.txt",
        ],
    ),
    ("auth list", &["anteroom auth list"]),
    ("auth use", &["anteroom auth use work", "anteroom auth use local"]),
    ("auth logout", &["anteroom auth logout work"]),
    ("auth status", &["anteroom auth status", "anteroom auth status --profile work --json"]),
    (
        "login",
        &[
            "anteroom login demo",
            "anteroom login codex --method device_code --qr",
            "anteroom login codex --out ~/.codex/auth.json",
        ],
    ),
    ("exec", &["anteroom exec --credential crd_01m8nxyvsgd3c01d4n19bvgvn1 -- codex exec 'Explain this'"]),
    ("attach", &["anteroom attach ses_01m8nxyvsgd3c01d4n19bvgvn1"]),
    (
        "cp",
        &[
            "anteroom cp report.txt ses_01m8nxyvsgd3c01d4n19bvgvn1:work/",
            "anteroom cp ses_01m8nxyvsgd3c01d4n19bvgvn1:work/result.json .",
        ],
    ),
    ("credentials list", &["anteroom credentials list", "anteroom credentials list --json"]),
    ("credentials show", &["anteroom credentials show crd_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("credentials check", &["anteroom credentials check crd_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("credentials logout", &["anteroom credentials logout crd_01m8nxyvsgd3c01d4n19bvgvn1 --yes"]),
    (
        "credentials delete",
        &[
            "anteroom credentials delete crd_01m8nxyvsgd3c01d4n19bvgvn1 --logout",
            "anteroom credentials delete crd_01m8nxyvsgd3c01d4n19bvgvn1 --yes",
        ],
    ),
    ("credentials lease", &["anteroom credentials lease crd_01m8nxyvsgd3c01d4n19bvgvn1 --out auth.json"]),
    ("credentials renew", &["anteroom credentials renew crd_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("sessions", &["anteroom sessions", "anteroom sessions ses_01m8nxyvsgd3c01d4n19bvgvn1 --json"]),
    ("sessions cancel", &["anteroom sessions cancel ses_01m8nxyvsgd3c01d4n19bvgvn1", "anteroom sessions cancel --all"]),
    ("sessions watch", &["anteroom sessions watch", "anteroom sessions watch ses_01m8nxyvsgd3c01d4n19bvgvn1 --json"]),
    ("top", &["anteroom top", "anteroom top --once"]),
    ("helpers list", &["anteroom helpers list ses_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("helpers end", &["anteroom helpers end ses_01m8nxyvsgd3c01d4n19bvgvn1 cal_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("diagnose", &["anteroom diagnose ses_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("logs", &["anteroom logs --level warn", "anteroom logs ses_01m8nxyvsgd3c01d4n19bvgvn1 --follow"]),
    ("bundle", &["anteroom bundle ses_01m8nxyvsgd3c01d4n19bvgvn1 --out bundle.tar.gz"]),
    ("backup", &["anteroom backup /var/backups", "anteroom backup before-upgrade.tar.gz"]),
    ("restore", &["anteroom restore /var/backups/anteroom-20260131T120000Z.tar.gz --state-dir /var/lib/anteroom"]),
    ("db check", &["anteroom db check", "anteroom db check --json"]),
    ("db export", &["anteroom db export /var/backups", "anteroom db export moved.tar.gz"]),
    ("db import", &["anteroom db import moved.tar.gz"]),
    ("reconcile", &["anteroom reconcile --dry-run"]),
    ("audit tail", &["anteroom audit tail --since 2h", "anteroom audit tail --follow --action credential."]),
    ("audit export", &["anteroom audit export --format csv > audit.csv"]),
    ("audit verify", &["anteroom audit verify"]),
    ("login-link", &["anteroom login-link"]),
    ("image build", &["anteroom image build", "anteroom image build --refresh"]),
    ("image export", &["anteroom image export anteroom-image.tar"]),
    (
        "image fetch",
        &["anteroom image fetch anteroom-image.tar", "anteroom image fetch anteroom-image.tar --sha256 HEX"],
    ),
    ("image show", &["anteroom image show"]),
    ("image lock", &["anteroom image lock > image/packages.lock"]),
    ("image sbom", &["anteroom image sbom > anteroom.cdx.json"]),
    ("providers example", &["anteroom providers example > providers/weather.toml"]),
    ("providers list", &["anteroom providers list"]),
    ("providers check", &["anteroom providers check", "anteroom providers check providers/my_tool.toml"]),
    ("providers outdated", &["anteroom providers outdated"]),
    (
        "providers test",
        &["anteroom providers test codex", "anteroom providers test my_tool.toml --screen screen.txt --width 100"],
    ),
    ("erase", &["anteroom erase --user u-17"]),
    ("host list", &["anteroom host list", "anteroom host list --json"]),
    ("host invite", &["anteroom host invite"]),
    ("host join", &["anteroom host join"]),
    ("host drain", &["anteroom host drain host-2", "anteroom host drain host-2 --deadline 3600"]),
    ("host undrain", &["anteroom host undrain host-2"]),
    ("host remove", &["anteroom host remove host-2"]),
    ("host fence", &["anteroom host fence host-2 --i-saw-it-dead"]),
    ("keys list", &["anteroom keys list"]),
    ("keys rotate", &["anteroom keys rotate"]),
    ("keys retire", &["anteroom keys retire 1"]),
    ("keys accept-rows", &["anteroom keys accept-rows"]),
    (
        "token create",
        &["anteroom token create my-backend", "anteroom token create laptop --expires 90d --scope start --scope read"],
    ),
    ("token list", &["anteroom token list"]),
    ("token rotate", &["anteroom token rotate cal_01m8nxyvsgd3c01d4n19bvgvn1 --overlap 1h"]),
    ("token revoke", &["anteroom token revoke cal_01m8nxyvsgd3c01d4n19bvgvn1"]),
    ("bench start", &["anteroom bench start --count 10"]),
    (
        "completions",
        &[
            "anteroom completions bash > ~/.local/share/bash-completion/completions/anteroom",
            "anteroom completions fish > ~/.config/fish/completions/anteroom.fish",
        ],
    ),
    ("man", &["anteroom man ~/.local/share/man/man1"]),
];

/// The examples of a command, named by its path without `anteroom`.
pub(super) fn examples_of(path: &str) -> &'static [&'static str] {
    EXAMPLES.iter().find(|(name, _)| *name == path).map_or(&[], |(_, examples)| examples)
}

/// Adds the examples to the help of each command.
pub(crate) fn with_examples(command: Command) -> Command {
    add(command, "")
}

fn add(command: Command, path: &str) -> Command {
    let examples = examples_of(path);
    let command = match examples {
        [] => command,
        [_, ..] => command.after_help(format!("Examples:\n  {}", examples.join("\n  "))),
    };
    command.mut_subcommands(|subcommand| {
        let path = format!("{path} {}", subcommand.get_name()).trim_start().to_owned();
        add(subcommand, &path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;
    use clap::CommandFactory;

    /// The words of a command line of a shell; what follows `>` is not an argument.
    fn words(line: &str) -> Vec<String> {
        let line = line.split(" > ").next().unwrap();
        let quoted = line.split('\'').enumerate();
        quoted
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    fn paths(command: &Command, path: &str, found: &mut Vec<String>) {
        for subcommand in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let path = format!("{path} {}", subcommand.get_name()).trim_start().to_owned();
            paths(subcommand, &path, found);
            if !subcommand.is_subcommand_required_set() {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_command_has_an_example_and_each_is_accepted() {
        let mut all = Vec::new();
        paths(&Arguments::command(), "", &mut all);
        for path in &all {
            assert!(!examples_of(path).is_empty(), "`anteroom {path}` has no example");
        }
        for (path, examples) in EXAMPLES {
            assert!(all.iter().any(|known| known == path), "there is no command `anteroom {path}`");
            for example in *examples {
                assert!(example.starts_with(&format!("anteroom {path}")), "{example}");
                let parsed = Arguments::command().try_get_matches_from(words(example));
                parsed.unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn help_shows_the_examples() {
        let mut command = with_examples(Arguments::command());
        let sessions = command.find_subcommand_mut("sessions").unwrap();
        assert!(sessions.render_help().to_string().contains("Examples:\n  anteroom sessions\n"));
    }

    /// Commands that print no data, or in a form of their own.
    const WITHOUT_JSON: &[&str] = &[
        "serve",
        "exec",
        "attach",
        "cp",
        "auth login",
        "auth use",
        "auth logout",
        "credentials logout",
        "credentials delete",
        "credentials renew",
        "helpers end",
        "host join",
        "host drain",
        "host undrain",
        "host remove",
        "host fence",
        "webhook resend",
        "audit export",
        "image build",
        "image export",
        "image fetch",
        "image lock",
        "image sbom",
        "completions",
        "man",
        "providers test",
        "providers example",
        "config example",
    ];

    #[test]
    fn every_command_that_prints_data_prints_json_on_request() {
        let mut all = Vec::new();
        let command = Arguments::command();
        paths(&command, "", &mut all);
        for path in &all {
            let found = path.split(' ').try_fold(&command, |command, name| command.find_subcommand(name)).unwrap();
            let has_json = found.get_arguments().any(|argument| argument.get_id() == "json");
            assert_eq!(has_json, !WITHOUT_JSON.contains(&path.as_str()), "anteroom {path}");
        }
    }
}

//! What counts as a credential of the tools whose file has several accounts, hosts or services (report R42 and its kind).

#![allow(clippy::unwrap_used, reason = "tests")]

use anteroom_wire::provider::{CredentialRules, FormatFault, MethodName, Provider};

fn rules(descriptor: &str, method: &str) -> CredentialRules {
    let provider: Provider = toml::from_str(descriptor).unwrap();
    let name = MethodName::try_from(method.to_owned()).unwrap();
    provider.with_method(&name).unwrap().credential
}

fn gh() -> CredentialRules {
    rules(include_str!("../../../providers/github_cli.toml"), "device_code")
}

fn token(name: &str) -> String {
    format!("gho_{name:x<36}")
}

fn account(rules: &CredentialRules, text: &str) -> Option<String> {
    rules.account.as_ref().unwrap().read_from(text.as_bytes())
}

#[test]
fn r42_of_several_hosts_and_accounts_the_active_one_of_github_counts() {
    let several = format!(
        "ghe.example.org:\n    users:\n        erin:\n            oauth_token: {erin}\n    git_protocol: https\n    oauth_token: {erin}\n    user: erin\n\
         github.com:\n    git_protocol: https\n    users:\n        ada:\n            oauth_token: {ada}\n        grace:\n            oauth_token: {grace}\n    \
         user: grace\n    oauth_token: {grace}\n",
        erin = token("erin"),
        ada = token("ada"),
        grace = token("grace"),
    );
    for text in [several.clone(), several.replace('\n', "\r\n")] {
        assert_eq!(gh().check_format(text.as_bytes()), Ok(()));
        assert_eq!(account(&gh(), &text).as_deref(), Some("grace"), "not that of the other host");
    }
}

#[test]
fn r42_a_token_in_the_keyring_is_refused_by_name() {
    let keyring = "github.com:\n    git_protocol: https\n    users:\n        grace:\n    user: grace\n".to_owned();
    let other_host = format!("{keyring}ghe.example.org:\n    oauth_token: {}\n    user: erin\n", token("erin"));
    let other_account =
        keyring.replace("users:\n", &format!("users:\n        ada:\n            oauth_token: {}\n", token("ada")));
    for text in [keyring, other_host, other_account] {
        let fault = gh().check_format(text.as_bytes()).unwrap_err();
        assert_eq!(fault, FormatFault::NoMatch, "{text}");
        assert!(fault.to_string().contains("keyring"), "{fault}");
    }
}

#[test]
fn r42_of_several_services_in_opencodes_file_that_of_the_method_counts() {
    let opencode = |method: &str| rules(include_str!("../../../providers/opencode.toml"), method);
    let text =
        r#"{"openai":{"type":"oauth","access":"a","refresh":"r","expires":1},"anthropic":{"type":"api","key":"k"}}"#;
    assert_eq!(opencode("anthropic").check_format(text.as_bytes()), Ok(()));
    assert_eq!(opencode("chatgpt").check_format(text.as_bytes()), Ok(()));
    let missing = vec!["/openrouter/type".to_owned(), "/openrouter/key".to_owned()];
    assert_eq!(opencode("openrouter").check_format(text.as_bytes()), Err(FormatFault::Missing(missing)));
    assert!(opencode("anthropic").never_refreshed && !opencode("chatgpt").never_refreshed);
}

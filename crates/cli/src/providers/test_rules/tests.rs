use super::*;
use anteroom_controller::providers::Providers;

/// The built-in rules are derived from these recordings of released tools.
#[test]
fn every_built_in_descriptor_reads_its_recorded_screens_as_expected() {
    for provider in Providers::load(&Config::default()).unwrap().iter() {
        let fixtures = built_in_fixtures(provider.id.as_str());
        assert!(!fixtures.is_empty(), "{} has no recorded screens", provider.id);
        for (name, text) in fixtures {
            let fixture: Fixture = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(all_differences(&fixture, provider).unwrap(), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn r08_an_address_in_a_box_is_found_whole() {
    let fixture: Fixture = toml::from_str(include_str!("r08_claude_code_in_a_box.screen")).unwrap();
    let providers = Providers::load(&Config::default()).unwrap();
    let claude = providers.iter().find(|provider| provider.id.as_str() == "claude_code").unwrap();
    assert_eq!(all_differences(&fixture, claude).unwrap(), Vec::<String>::new());
}

/// Each tested version has a recording for each sign-in method.
#[test]
fn every_descriptor_of_a_released_tool_has_a_run_recorded_at_its_tested_version() {
    for provider in Providers::load(&Config::default()).unwrap().iter() {
        let Some(tested) = provider.tested_version.as_deref() else { continue };
        let methods: Vec<String> = provider.method_labels().iter().map(|(name, _)| name.to_string()).collect();
        let mut recorded = std::collections::BTreeSet::new();
        for (name, text) in built_in_fixtures(provider.id.as_str()) {
            let fixture: Fixture = toml::from_str(&text).unwrap();
            assert!(fixture.version.is_some() && fixture.recorded.is_some(), "{name} lacks version or recorded");
            if fixture.version.as_deref() == Some(tested) {
                recorded.insert(fixture.method.unwrap_or_else(|| provider.method.clone()).to_string());
            }
        }
        let missing: Vec<_> = methods.iter().filter(|method| !recorded.contains(*method)).collect();
        assert!(missing.is_empty(), "{} {tested}: no run is recorded by {missing:?}", provider.id);
    }
}

fn arguments(which: &str) -> TestArguments {
    TestArguments { which: which.into(), screen: Vec::new(), width: 120, method: None, credential: None }
}

fn is_success(code: ExitCode) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)
}

const DESCRIPTOR: &str = "id = \"x\"
name = \"X\"
cli = \"x\"
argv = [\"x\"]
lanes = [\"link\"]
sign_in_hosts = [\"a.example\"]
next_action = \"Do.\"
policy = \"store\"
egress = []
credential = { paths = [\"x\"], required = [\"/x\"] }
sign_in = { url = 'https://\\S+' }
";

#[test]
fn a_new_provider_is_one_file_and_its_fixtures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, DESCRIPTOR).unwrap();
    let which = file.to_str().unwrap();
    let passes = |arguments: &TestArguments| is_success(run(&Config::default(), arguments).unwrap());
    assert!(!passes(&arguments(which)), "fails without a recorded screen");
    let fixtures = dir.path().join("fixtures/x");
    std::fs::create_dir_all(&fixtures).unwrap();
    let screen = |url: &str| format!("[[screens]]\ntext = 'See https://a.example/in'\nexpect.url = '{url}'\n");
    std::fs::write(fixtures.join("waits.screen"), screen("https://a.example/in")).unwrap();
    assert!(passes(&arguments(which)));
    std::fs::write(fixtures.join("other.screen"), screen("https://b.example/in")).unwrap();
    assert!(!passes(&arguments(which)), "one of two fixtures fails");
    let plain = dir.path().join("screen.txt");
    std::fs::write(&plain, "See https://a.example/in now\n").unwrap();
    assert!(passes(&TestArguments { screen: vec![plain], ..arguments(which) }));
}

#[test]
fn a_credential_file_is_accepted_only_with_all_required_keys() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    for (content, is_accepted) in [("{\"OPENAI_API_KEY\": \"sk-x\"}", true), ("{\"tokens\": {}}", false), ("{", false)]
    {
        std::fs::write(&file, content).unwrap();
        let method = Some("api_key".to_owned());
        let arguments = TestArguments { credential: Some(file.clone()), method, ..arguments("codex") };
        assert_eq!(is_success(run(&Config::default(), &arguments).unwrap()), is_accepted, "{content}");
    }
}

#[test]
fn a_recorded_credential_file_that_is_not_accepted_is_a_difference() {
    let providers = Providers::load(&Config::default()).unwrap();
    let codex = providers.get(&"codex".parse().unwrap()).unwrap();
    let run = |path: &str, text: &str| {
        let text = format!("[[screens]]\ntext = ''\n[file]\npath = '{path}'\ntext = '{text}'\n");
        all_differences(&toml::from_str(&text).unwrap(), codex).unwrap().join("; ")
    };
    let whole = r#"{ "tokens": { "id_token": "x", "access_token": "x", "refresh_token": "x" } }"#;
    assert_eq!(run(".codex/auth.json", whole), "");
    assert!(run(".codex/other.json", whole).contains(".codex/other.json is not a path of the credential"));
    assert!(run(".codex/auth.json", r#"{ "tokens": {} }"#).contains("is not accepted"));
}

#[test]
fn findings_are_described_as_text() {
    let providers = Providers::load(&Config::default()).unwrap();
    let codex = providers.get(&"codex".parse().unwrap()).unwrap();
    let screen = "Open this link\n   https://auth.openai.com/codex/device\n\nEnter this code\n   ABCD-12345\n\n";
    let findings = evaluate_screens(codex, &[RecordedScreen::from_text(screen, 120)]).unwrap();
    let text = describe(codex, &findings[0]);
    assert_eq!(text, ["URL in the text: https://auth.openai.com/codex/device", "code: ABCD-12345"]);
    assert_eq!(describe(codex, &ScreenFindings::default()), ["no findings"]);
}

#[test]
fn an_invalid_descriptor_is_reported_and_not_replaced_by_the_built_in_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("codex.toml"), "id = \"codex\nname =\n").unwrap();
    let config = Config { providers_dir: Some(dir.path().to_owned()), ..Config::default() };
    assert!(!is_success(run(&config, &arguments("codex")).unwrap()));
    assert!(is_success(run(&config, &arguments("demo")).unwrap()), "other providers are not affected");
    assert!(!is_success(super::super::check::run(&config, &["codex".to_owned()], false).unwrap()));
    assert!(is_success(super::super::check::run(&config, &["demo".to_owned()], false).unwrap()));
    assert!(!is_success(super::super::check::run(&config, &[], false).unwrap()));
    let missing = Config { providers_dir: Some(dir.path().join("none")), ..Config::default() };
    assert!(
        !is_success(super::super::check::run(&missing, &["codex".to_owned()], false).unwrap()),
        "the missing directory may contain it"
    );
}

#[test]
fn only_runs_recorded_with_the_method_are_tested() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    let more = "label = 'One'\n[methods.other]\nlabel = 'Other'\n[methods.third]\nlabel = 'Third'\n";
    std::fs::write(&file, format!("{DESCRIPTOR}{more}")).unwrap();
    let fixtures = dir.path().join("fixtures/x");
    std::fs::create_dir_all(&fixtures).unwrap();
    let screen = |url: &str| format!("[[screens]]\ntext = 'See https://a.example/in'\nexpect.url = '{url}'\n");
    std::fs::write(fixtures.join("waits.screen"), screen("https://a.example/in")).unwrap();
    let by_other = format!("method = 'other'\n{}", screen("https://b.example/in"));
    std::fs::write(fixtures.join("other.screen"), by_other).unwrap();
    for (method, passes) in [(None, false), (Some("default"), true), (Some("other"), false), (Some("third"), false)] {
        let arguments = TestArguments { method: method.map(str::to_owned), ..arguments(file.to_str().unwrap()) };
        assert_eq!(is_success(run(&Config::default(), &arguments).unwrap()), passes, "{method:?}");
    }
}

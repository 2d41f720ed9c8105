//! A tool's terminal output, read by the rules of every built-in provider.
#![no_main]

use anteroom_screen::{
    PromptRules, PromptTracker, ScreenAction, ScreenSnapshot, SignInFinder, TEXT_BYTES_MAX, mask_secrets, web_url_host,
};
use anteroom_wire::{agent::SignInOutcome, provider::Provider};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

struct Rules {
    ids: Vec<String>,
    finder: SignInFinder,
    prompts: PromptRules,
}

static PROVIDERS: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    [
        include_str!("../../providers/claude_code.toml"),
        include_str!("../../providers/codex.toml"),
        include_str!("../../providers/copilot_cli.toml"),
        include_str!("../../providers/demo.toml"),
        include_str!("../../providers/gemini_cli.toml"),
        include_str!("../../providers/github_cli.toml"),
        include_str!("../../providers/opencode.toml"),
        include_str!("../../providers/qwen_code.toml"),
    ]
    .map(|text| {
        let provider: Provider = toml::from_str(text).expect("built-in descriptors are valid");
        Rules {
            ids: provider.prompts.iter().map(|rule| rule.id.clone()).collect(),
            finder: SignInFinder::new(&provider.sign_in).expect("its patterns are valid"),
            prompts: PromptRules::new(&provider).expect("its patterns are valid"),
        }
    })
    .into()
});

fn check_snapshot(snapshot: &ScreenSnapshot) {
    assert!(snapshot.links.len() <= 64);
    assert!(snapshot.lines.iter().all(|line| !line.contains('\u{1b}')), "{:?}", snapshot.lines);
    // Cleaning cleaned lines changes nothing.
    let again = ScreenSnapshot::new(&snapshot.lines, snapshot.width, snapshot.lines.len(), 0);
    assert_eq!(again.lines, snapshot.lines);
}

fn check_rules(rules: &Rules, screens: &[ScreenSnapshot]) {
    let mut tracker = PromptTracker::default();
    for screen in screens {
        let found = rules.finder.find(screen);
        for url in found.url.map(|url| url.text).into_iter().chain(found.hyperlink_url) {
            assert!(web_url_host(&url).is_some_and(|host| !host.is_empty()), "{url:?}");
        }
        if let Some(code) = found.code {
            assert!(code.text.chars().count() <= 64 && !code.text.chars().any(char::is_control), "{code:?}");
        }
        for action in tracker.observe(&rules.prompts, &screen.text(), true) {
            match action {
                ScreenAction::ReportPrompt(id) | ScreenAction::ClosePrompt(id) => assert!(rules.ids.contains(&id)),
                ScreenAction::PressKeys { id, keys } => {
                    assert!(rules.ids.contains(&id) && !keys.is_empty());
                    tracker.record_press();
                }
                ScreenAction::OpenPrompt(prompt) | ScreenAction::ReopenPrompt(prompt) => {
                    assert!(rules.ids.iter().any(|id| id.as_str() == prompt.id.as_str()));
                    assert!(prompt.rejection.is_none_or(|reason| reason.len() <= TEXT_BYTES_MAX));
                }
                ScreenAction::ReportOutcome(SignInOutcome::Failed { why }) => assert!(why.len() <= TEXT_BYTES_MAX),
                ScreenAction::ReportOutcome(SignInOutcome::Done) => {}
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [width, height, cursor_row, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    // A form feed begins the next screen.
    let screens: Vec<ScreenSnapshot> = text
        .split('\u{c}')
        .take(8)
        .map(|screen| {
            let lines: Vec<String> = screen.lines().map(str::to_owned).collect();
            ScreenSnapshot::new(&lines, usize::from(*width), usize::from(*height), usize::from(*cursor_row))
        })
        .collect();
    screens.iter().for_each(check_snapshot);
    for rules in PROVIDERS.iter() {
        check_rules(rules, &screens);
    }
    let masked = mask_secrets(&text);
    assert_eq!(mask_secrets(&masked), masked, "masking masked text changes it");
});

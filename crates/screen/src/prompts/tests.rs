//! Rules on synthetic screens and on those that real tools showed.

use super::*;

fn provider(rules: &str) -> Provider {
    let head = r#"{ "id": "x", "name": "X", "cli": "x", "argv": ["x"], "lanes": ["terminal"], "next_action": "Do.", "egress": [],
        "policy": "store", "credential": { "paths": ["x"], "required": ["/x"] }, "#;
    serde_json::from_str(&format!("{head}{rules}}}")).unwrap()
}

/// A run of the tool: screens one after the other.
struct Run {
    rules: PromptRules,
    tracker: PromptTracker,
}

impl Run {
    fn new(rules: &str) -> Self {
        Self { rules: PromptRules::new(&provider(rules)).unwrap(), tracker: PromptTracker::default() }
    }

    fn observe(&mut self, text: &str) -> Vec<ScreenAction> {
        self.tracker.observe(&self.rules, text, true)
    }

    /// The keys' names are pressed as the rule wants.
    fn press(&mut self, text: &str) -> usize {
        let presses =
            self.observe(text).iter().filter(|action| matches!(action, ScreenAction::PressKeys { .. })).count();
        for _ in 0..presses {
            self.tracker.record_press();
        }
        presses
    }
}

fn fixture(name: &str) -> String {
    let path = format!("{}/../testbed/fixtures/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim_end().to_owned()
}

const CONTINUE: &str = r#""prompts": [{ "id": "go_on", "matches": "Continue\\?", "press": ["down", "enter"] }]"#;

#[test]
fn keys_are_pressed_once_each_time_the_prompt_appears() {
    let mut run = Run::new(CONTINUE);
    let keys = vec![Key::Down, Key::Enter];
    let press = ScreenAction::PressKeys { id: "go_on".into(), keys };
    assert_eq!(run.observe("Continue?"), [ScreenAction::ReportPrompt("go_on".into()), press.clone()]);
    assert_eq!(run.observe("Continue? /"), [press], "not pressed yet: the screen had changed");
    run.tracker.record_press();
    assert_eq!(run.observe("Continue? -"), []);
    assert_eq!(run.observe("working"), []);
    assert_eq!(run.press("Continue?"), 1);
    assert_eq!(run.press("Continue?"), 0);
}

#[test]
fn a_recurring_prompt_is_answered_a_bounded_number_of_times() {
    let mut run = Run::new(CONTINUE);
    let mut presses = 0;
    for _ in 0..PRESSES_MAX + 10 {
        presses += run.press("Continue?");
        run.observe("");
    }
    assert_eq!(presses, PRESSES_MAX as usize);
}

#[test]
fn an_unknown_prompt_is_left_to_the_user() {
    let mut run = Run::new(CONTINUE);
    assert_eq!(run.observe("Do you like green? [y/n]"), []);
    assert_eq!(Run::new(r#""prompts": []"#).observe("Continue?"), []);
}

#[test]
fn prompts_of_a_stopped_tool_are_ignored() {
    let mut run = Run::new(CONTINUE);
    assert_eq!(run.tracker.observe(&run.rules, "Continue?", false), []);
    let mut run = Run::new(ASK);
    run.observe("Code: ");
    assert_eq!(run.tracker.observe(&run.rules, "Code: ", false), [ScreenAction::ClosePrompt("code".into())]);
}

#[test]
fn the_first_matching_rule_wins() {
    let rules = r#""prompts": [{ "id": "a", "matches": "one", "press": ["y"] }, { "id": "b", "matches": "two", "press": ["n"] }]"#;
    let mut run = Run::new(rules);
    assert_eq!(run.observe("two").first(), Some(&ScreenAction::ReportPrompt("b".into())));
    assert_eq!(run.observe("one two").first(), Some(&ScreenAction::ReportPrompt("a".into())));
}

const ASK: &str = r#""prompts": [{ "id": "code", "matches": "Code: *\\z", "ask": { "label": "The code",
    "rejected": "Not taken: (.*)" } }]"#;

fn prompt(rejected: Option<&str>) -> OpenPrompt {
    let rejected = rejected.map(Into::into);
    OpenPrompt {
        id: "code".into(),
        label: "The code".into(),
        secret: false,
        expected_format: None,
        rejection: rejected,
    }
}

#[test]
fn a_prompt_opens_and_closes_and_reports_the_tools_rejection() {
    let mut run = Run::new(ASK);
    assert_eq!(
        run.observe("Not taken: an old reason\nCode: "),
        [ScreenAction::OpenPrompt(prompt(None))],
        "no answer was given yet"
    );
    assert_eq!(run.observe("Not taken: an old reason\nCode:"), []);
    assert_eq!(run.observe("Code: 12\nworking"), [ScreenAction::ClosePrompt("code".into())]);
    assert_eq!(run.observe("Code: 12\nNot taken: too short"), [], "the question is not back yet");
    let again = "Code: 12\nNot taken: too short\nCode:";
    assert_eq!(run.observe(again), [ScreenAction::ReopenPrompt(prompt(Some("too short")))]);
    assert_eq!(run.observe(again), []);
    // The same reason for the second answer, while the prompt was still on the screen.
    let twice = "Code: 12\nNot taken: too short\nCode: 13\nNot taken: too short\nCode:";
    assert_eq!(run.observe(twice), [ScreenAction::ReopenPrompt(prompt(Some("too short")))]);
    // A screen that only scrolled reports nothing.
    assert_eq!(run.observe("Not taken: too short\nCode:"), []);
}

#[test]
fn secrets_are_masked_in_the_tools_reasons() {
    let mut run = Run::new(ASK);
    run.observe("Code:");
    let actions = run.observe("Not taken: sk-ant-0123456789abcdefghij of https://a.example/x?code=1\nCode:");
    assert_eq!(actions, [ScreenAction::ReopenPrompt(prompt(Some("••• of https://a.example/x?…")))]);
}

#[test]
fn each_sign_in_result_on_the_screen_is_reported_once() {
    let mut run = Run::new(r#""sign_in": { "done": "Signed in", "failed": "Failed: (.*)" }"#);
    let failed = |why: &str| ScreenAction::ReportOutcome(SignInOutcome::Failed { why: why.into() });
    assert_eq!(run.observe("Failed: no"), [failed("no")]);
    assert_eq!(run.observe("Failed: no\nagain"), []);
    assert_eq!(run.observe("Failed: no\nFailed: no"), [failed("no")]);
    assert_eq!(run.observe("Failed: no"), []);
    assert_eq!(run.observe("Failed: no\nSigned in"), [ScreenAction::ReportOutcome(SignInOutcome::Done)]);
    assert_eq!(run.observe("Signed in\nFailed: late"), [failed("late")]);
    assert_eq!(
        run.tracker.observe(&run.rules, "Signed in, again\nSigned in", false),
        [ScreenAction::ReportOutcome(SignInOutcome::Done)]
    );
}

/// Claude Code's, as its screens show.
const CLAUDE: &str = r#""sign_in": { "done": "(?m)Login successful\\.", "failed": "Couldn't log in: (.+)" },
    "prompts": [{ "id": "code", "matches": "Paste code here if prompted >[^\\n]*\\z", "ask": { "label": "The code",
        "rejected": "(?m)^(That (?:doesn't look like the full code|address only works).*)$" } }]"#;

#[test]
fn claude_code_screens_open_reject_and_complete() {
    let mut run = Run::new(CLAUDE);
    let step = |name: &str| fixture(&format!("claude_code-2.1.332/{name}"));
    assert_eq!(run.observe(&step("link-waiting")), [ScreenAction::OpenPrompt(prompt(None))]);
    let half = "That doesn't look like the full code. Copy all of it, including the # in the middle.";
    assert_eq!(run.observe(&step("link-incomplete-code")), [ScreenAction::ReopenPrompt(prompt(Some(half)))]);
    let local = run.observe(&step("link-loopback-url"));
    assert!(
        matches!(&local[..], [ScreenAction::ReopenPrompt(prompt)] if prompt.rejection.as_deref().unwrap().starts_with("That address only"))
    );
    assert_eq!(
        run.observe(&step("link-done")),
        [ScreenAction::ReportOutcome(SignInOutcome::Done), ScreenAction::ClosePrompt("code".into())]
    );

    let mut run = Run::new(CLAUDE);
    run.observe(&step("login-waiting"));
    let failed = SignInOutcome::Failed { why: "Invalid state parameter".into() };
    assert_eq!(run.observe(&step("login-wrong-state"))[0], ScreenAction::ReportOutcome(failed));

    let mut run = Run::new(CLAUDE);
    run.observe(&step("link-waiting"));
    let refused = run.observe(&step("link-code-rejected"));
    assert!(
        matches!(&refused[..], [ScreenAction::ReportOutcome(SignInOutcome::Failed { why }), ScreenAction::ClosePrompt(_)] if why.starts_with("That code wasn't accepted"))
    );
}

#[test]
fn gemini_cli_screens_are_answered_and_ask_the_user() {
    let rules = r#""sign_in": { "done": "Authentication succeeded|Type your message" }, "prompts": [
        { "id": "which_way", "matches": "How would you like to authenticate[\\s\\S]*● 1\\. Sign in with Google", "press": ["enter"] },
        { "id": "may_it_open", "matches": "Do you want to continue\\?[\\s\\S]*● 1\\. Yes", "press": ["enter"] },
        { "id": "code", "matches": "Enter the authorization code:[^\\n]*\\z", "ask": { "label": "The code",
            "rejected": "(?m)^Failed to authenticate with authorization code:(.*)$" } }]"#;
    let mut run = Run::new(rules);
    let step = |name: &str| fixture(&format!("gemini_cli-0.61.0/{name}"));
    assert_eq!(run.press(&step("browser-method-prompt")), 1);
    assert_eq!(run.press(&step("browser-open-prompt")), 1);
    assert_eq!(run.observe(&step("browser-waiting")), []);
    assert_eq!(run.observe(&step("browser-done")), [ScreenAction::ReportOutcome(SignInOutcome::Done)]);

    let mut run = Run::new(rules);
    assert_eq!(run.observe(&step("link-waiting")), [ScreenAction::OpenPrompt(prompt(None))]);
    assert_eq!(run.observe(&step("link-retry")), [ScreenAction::ReopenPrompt(prompt(Some("invalid_grant")))]);
    assert_eq!(
        run.observe(&step("link-done")),
        [ScreenAction::ReportOutcome(SignInOutcome::Done), ScreenAction::ClosePrompt("code".into())]
    );
}

#[test]
fn an_invalid_pattern_is_named_in_the_error() {
    let rules = r#""prompts": [{ "id": "a", "matches": "(", "press": ["y"] }]"#;
    assert!(
        PromptRules::new(&provider(rules)).is_err_and(|error| error.to_string().contains("prompts \"a\": matches"))
    );
}

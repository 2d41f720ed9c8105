//! Rules on synthetic screens and on those that real tools showed.

use super::*;

fn provider(rules: &str) -> Provider {
    let head = r#"{ "id": "x", "name": "X", "cli": "x", "argv": ["x"], "lanes": ["terminal"], "next_action": "Do.", "egress": [],
        "policy": "store", "credential": { "paths": ["x"], "required": ["/x"] }, "#;
    serde_json::from_str(&format!("{head}{rules}}}")).unwrap()
}

/// A run of the tool: screens one after the other.
struct Run {
    rules: Rules,
    course: Course,
}

impl Run {
    fn new(rules: &str) -> Self {
        Self { rules: Rules::new(&provider(rules)).unwrap(), course: Course::default() }
    }

    fn look(&mut self, text: &str) -> Vec<Step> {
        self.course.look(&self.rules, text, true)
    }

    /// The keys' names are pressed as the rule wants.
    fn press(&mut self, text: &str) -> usize {
        let presses = self.look(text).iter().filter(|step| matches!(step, Step::Press { .. })).count();
        for _ in 0..presses {
            self.course.pressed();
        }
        presses
    }
}

fn kept(name: &str) -> String {
    let path = format!("{}/../testbed/fixtures/screens/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim_end().to_owned()
}

const CONTINUE: &str = r#""prompts": [{ "id": "go_on", "matches": "Continue\\?", "press": ["down", "enter"] }]"#;

#[test]
fn keys_are_pressed_once_each_time_the_question_appears() {
    let mut run = Run::new(CONTINUE);
    let keys = vec![Key::Down, Key::Enter];
    let press = Step::Press { id: "go_on".into(), keys };
    assert_eq!(run.look("Continue?"), [Step::Appeared("go_on".into()), press.clone()]);
    assert_eq!(run.look("Continue? /"), [press], "not pressed yet: the screen had changed");
    run.course.pressed();
    assert_eq!(run.look("Continue? -"), []);
    assert_eq!(run.look("working"), []);
    assert_eq!(run.press("Continue?"), 1);
    assert_eq!(run.press("Continue?"), 0);
}

#[test]
fn a_question_that_comes_again_and_again_is_not_answered_for_ever() {
    let mut run = Run::new(CONTINUE);
    let mut presses = 0;
    for _ in 0..PRESSES_MAX + 10 {
        presses += run.press("Continue?");
        run.look("");
    }
    assert_eq!(presses, PRESSES_MAX as usize);
}

#[test]
fn an_unknown_question_is_left_to_the_person() {
    let mut run = Run::new(CONTINUE);
    assert_eq!(run.look("Do you like green? [y/n]"), []);
    assert_eq!(Run::new(r#""prompts": []"#).look("Continue?"), []);
}

#[test]
fn a_tool_that_does_not_run_asks_nothing() {
    let mut run = Run::new(CONTINUE);
    assert_eq!(run.course.look(&run.rules, "Continue?", false), []);
    let mut run = Run::new(ASK);
    run.look("Code: ");
    assert_eq!(run.course.look(&run.rules, "Code: ", false), [Step::Close("code".into())]);
}

#[test]
fn the_first_rule_that_matches_counts() {
    let rules = r#""prompts": [{ "id": "a", "matches": "one", "press": ["y"] }, { "id": "b", "matches": "two", "press": ["n"] }]"#;
    let mut run = Run::new(rules);
    assert_eq!(run.look("two").first(), Some(&Step::Appeared("b".into())));
    assert_eq!(run.look("one two").first(), Some(&Step::Appeared("a".into())));
}

const ASK: &str = r#""prompts": [{ "id": "code", "matches": "Code: *\\z", "ask": { "label": "The code",
    "refused": "Not taken: (.*)" } }]"#;

fn prompt(refused: Option<&str>) -> OpenPrompt {
    let refused = refused.map(str::to_owned);
    OpenPrompt { id: "code".into(), label: "The code".into(), secret: false, hint: None, refused }
}

#[test]
fn a_question_to_the_person_opens_closes_and_carries_the_tools_refusal() {
    let mut run = Run::new(ASK);
    assert_eq!(run.look("Not taken: an old word\nCode: "), [Step::Open(prompt(None))], "no answer was given yet");
    assert_eq!(run.look("Not taken: an old word\nCode:"), []);
    assert_eq!(run.look("Code: 12\nworking"), [Step::Close("code".into())]);
    assert_eq!(run.look("Code: 12\nNot taken: too short"), [], "the question is not back yet");
    let again = "Code: 12\nNot taken: too short\nCode:";
    assert_eq!(run.look(again), [Step::Again(prompt(Some("too short")))]);
    assert_eq!(run.look(again), []);
    // The same word for the second answer, before the question was seen to go.
    let twice = "Code: 12\nNot taken: too short\nCode: 13\nNot taken: too short\nCode:";
    assert_eq!(run.look(twice), [Step::Again(prompt(Some("too short")))]);
    // A screen that scrolls is no news.
    assert_eq!(run.look("Not taken: too short\nCode:"), []);
}

#[test]
fn the_tools_reasons_lose_what_looks_like_a_secret() {
    let mut run = Run::new(ASK);
    run.look("Code:");
    let steps = run.look("Not taken: sk-ant-0123456789abcdefghij of https://a.example/x?code=1\nCode:");
    assert_eq!(steps, [Step::Again(prompt(Some("••• of https://a.example/x?…")))]);
}

#[test]
fn the_tools_word_on_its_sign_in_is_told_once_each_time_it_says_so() {
    let mut run = Run::new(r#""sign_in": { "done": "Signed in", "failed": "Failed: (.*)" }"#);
    let failed = |why: &str| Step::Outcome(Outcome::Failed { why: why.into() });
    assert_eq!(run.look("Failed: no"), [failed("no")]);
    assert_eq!(run.look("Failed: no\nagain"), []);
    assert_eq!(run.look("Failed: no\nFailed: no"), [failed("no")]);
    assert_eq!(run.look("Failed: no"), []);
    assert_eq!(run.look("Failed: no\nSigned in"), [Step::Outcome(Outcome::Done)]);
    assert_eq!(run.look("Signed in\nFailed: late"), [failed("late")]);
    assert_eq!(run.course.look(&run.rules, "Signed in, again\nSigned in", false), [Step::Outcome(Outcome::Done)]);
}

/// Claude Code's, as its screens show.
const CLAUDE: &str = r#""sign_in": { "done": "(?m)Login successful\\.", "failed": "Couldn't log in: (.+)" },
    "prompts": [{ "id": "code", "matches": "Paste code here if prompted >[^\\n]*\\z", "ask": { "label": "The code",
        "refused": "(?m)^(That (?:doesn't look like the full code|address only works).*)$" } }]"#;

#[test]
fn claude_codes_screens_open_the_question_refuse_and_end() {
    let mut run = Run::new(CLAUDE);
    let step = |name: &str| kept(&format!("claude_code-2.1.330/{name}"));
    assert_eq!(run.look(&step("link-waits")), [Step::Open(prompt(None))]);
    let half = "That doesn't look like the full code. Copy all of it, including the # in the middle.";
    assert_eq!(run.look(&step("link-half-a-code")), [Step::Again(prompt(Some(half)))]);
    let local = run.look(&step("link-local-address"));
    assert!(
        matches!(&local[..], [Step::Again(prompt)] if prompt.refused.as_deref().unwrap().starts_with("That address only"))
    );
    assert_eq!(run.look(&step("link-done")), [Step::Outcome(Outcome::Done), Step::Close("code".into())]);

    let mut run = Run::new(CLAUDE);
    run.look(&step("login-waits"));
    let failed = Outcome::Failed { why: "Invalid state parameter".into() };
    assert_eq!(run.look(&step("login-another-state"))[0], Step::Outcome(failed));

    let mut run = Run::new(CLAUDE);
    run.look(&step("link-waits"));
    let refused = run.look(&step("link-refused"));
    assert!(
        matches!(&refused[..], [Step::Outcome(Outcome::Failed { why }), Step::Close(_)] if why.starts_with("That code wasn't accepted"))
    );
}

#[test]
fn gemini_clis_screens_are_answered_and_asked() {
    let rules = r#""sign_in": { "done": "Authentication succeeded|Type your message" }, "prompts": [
        { "id": "which_way", "matches": "How would you like to authenticate[\\s\\S]*● 1\\. Sign in with Google", "press": ["enter"] },
        { "id": "may_it_open", "matches": "Do you want to continue\\?[\\s\\S]*● 1\\. Yes", "press": ["enter"] },
        { "id": "code", "matches": "Enter the authorization code:[^\\n]*\\z", "ask": { "label": "The code",
            "refused": "(?m)^Failed to authenticate with authorization code:(.*)$" } }]"#;
    let mut run = Run::new(rules);
    let step = |name: &str| kept(&format!("gemini_cli-0.61.0/{name}"));
    assert_eq!(run.press(&step("browser-which-way")), 1);
    assert_eq!(run.press(&step("browser-may-it-open")), 1);
    assert_eq!(run.look(&step("browser-waits")), []);
    assert_eq!(run.look(&step("browser-done")), [Step::Outcome(Outcome::Done)]);

    let mut run = Run::new(rules);
    assert_eq!(run.look(&step("link-waits")), [Step::Open(prompt(None))]);
    assert_eq!(run.look(&step("link-again")), [Step::Again(prompt(Some("invalid_grant")))]);
    assert_eq!(run.look(&step("link-done")), [Step::Outcome(Outcome::Done), Step::Close("code".into())]);
}

#[test]
fn a_pattern_that_is_none_is_named() {
    let rules = r#""prompts": [{ "id": "a", "matches": "(", "press": ["y"] }]"#;
    assert!(Rules::new(&provider(rules)).is_err_and(|error| error.contains("prompts \"a\": matches")));
}

//! The words that a person without knowledge of this project does not understand: no sentence of a person's page contains one.

/// Words of operators, of the API and of programs, in small letters.
const WORDS_FOR_OPERATORS: &[&str] = &[
    "get /",
    "post",
    "/api",
    "anteroom",
    "signal",
    "kill",
    "kvm",
    "guest",
    "agent",
    "machine",
    "vm",
    "credential",
    "egress",
    "session",
    "docs/",
    "toml",
    "`",
    "_",
    "~",
    "/.",
    "json",
    "token",
    "ticket",
    "cookie",
    "http",
    "process",
    "kernel",
    "server",
    "caller",
    "exit code",
    "exited",
    "origin",
    "handshake",
    "tls",
];

/// The first word of a text that only operators understand.
pub fn operator_word(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    WORDS_FOR_OPERATORS.iter().copied().find(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::operator_word;

    #[test]
    fn words_of_the_api_are_found() {
        for text in
            ["GET /api/providers lists them.", "Run `doctor`.", "Killed by SIGNAL 9", "See ~/.config", "idle_s_max"]
        {
            assert!(operator_word(text).is_some(), "{text}");
        }
        assert_eq!(operator_word("The temporary computer stopped."), None);
    }
}

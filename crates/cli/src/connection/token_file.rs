//! Reads a token from a file, from standard input or from the terminal.

use crate::terminal_input;
use anteroom_wire::Secret;
use anyhow::Context;
use std::{io::IsTerminal, path::Path};

/// What API tokens begin with.
const TOKEN_PREFIX: &str = "ant_";

/// Reads the token in a file; `-` reads standard input.
///
/// # Errors
/// The file cannot be read or has no token. A token in place of the file's name is not repeated.
pub(crate) fn read(file: &Path) -> anyhow::Result<Secret> {
    anyhow::ensure!(
        !file.as_os_str().as_encoded_bytes().starts_with(TOKEN_PREFIX.as_bytes()) || file.exists(),
        "--token-file takes the name of a file, not a token: each user of this host can list the arguments of programs, and shells \
         keep them. That token has now been shown: revoke it. Write tokens into a file (mode 0600), pipe them in with `--token-file -`, \
         or set ANTEROOM_TOKEN"
    );
    let token = terminal_input::read_key_file(file)?;
    require_one_word(&token).with_context(|| file.display().to_string())?;
    Ok(token)
}

/// Asks for a token on the terminal, without echo.
///
/// # Errors
/// Standard input is no terminal, or what was entered is no token.
pub(crate) async fn ask(server: &str) -> anyhow::Result<Secret> {
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "there is no terminal to ask for the token: name a file with --token-file, or pipe it in with --token-file -"
    );
    let prompt = format!("Token of {server} (made there with `anteroom token create NAME`): ");
    let token = terminal_input::read_line(&prompt, true).await?;
    require_one_word(&token)?;
    Ok(token)
}

fn require_one_word(token: &Secret) -> anyhow::Result<()> {
    let is_word = !token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(is_word, "a token is one word");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_as_an_argument_is_refused_and_not_repeated() {
        let error = read(Path::new("ant_0123456789SECRET")).unwrap_err().to_string();
        assert!(error.contains("arguments") && !error.contains("SECRET"), "{error}");
    }

    #[test]
    fn a_token_is_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "ant_word\n").unwrap();
        assert_eq!(read(&file).unwrap().expose(), "ant_word");
        for wrong in ["two words", "line\nline", "", "ant_é"] {
            std::fs::write(&file, wrong).unwrap();
            assert!(read(&file).is_err(), "{wrong:?}");
        }
    }
}

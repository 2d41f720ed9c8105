//! Asks before something is deleted, or a sign-in is ended.

use super::{output::one_line, terminal_input};
use std::io::IsTerminal;

/// Asks whether to do this, unless `yes` is set; `what` is a question.
///
/// # Errors
/// There is no terminal to ask at, or the answer is not `y` or `yes`.
pub(super) async fn require(what: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    anyhow::ensure!(
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        "this cannot be undone, and there is no terminal to ask at: add --yes"
    );
    let answer = terminal_input::read_line(&format!("{} [y/N] ", one_line(what)), false).await?;
    anyhow::ensure!(matches!(answer.expose().to_lowercase().as_str(), "y" | "yes"), "nothing was changed");
    Ok(())
}

//! Compiles the patterns of a provider.

use regex_lite::Regex;

/// A provider's pattern that is not a regular expression.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{setting} is not a regular expression")]
pub struct PatternError {
    /// The pattern's key in the descriptor.
    pub setting: String,
    /// The cause.
    pub source: regex_lite::Error,
}

/// Compiles the pattern of this setting, if there is one.
///
/// # Errors
/// It is not a regular expression.
pub fn compile_pattern(setting: &str, pattern: Option<&str>) -> Result<Option<Regex>, PatternError> {
    let compiled = pattern.map(Regex::new).transpose();
    compiled.map_err(|source| PatternError { setting: setting.to_owned(), source })
}

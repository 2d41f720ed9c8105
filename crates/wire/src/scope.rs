//! Scopes of API tokens: which kinds of requests a token permits, within its role.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

macro_rules! scopes {
    ($( $(#[doc = $doc:literal])* $name:ident = $text:literal; )*) => {
        /// What a token permits, within its role.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Scope { $( $(#[doc = $doc])* $name, )* }

        impl Scope {
            /// All scopes.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Its text, as in a token's list of scopes.
            pub fn as_str(self) -> &'static str { match self { $( Self::$name => $text, )* } }

            /// What it permits, for documents and `--help`.
            pub fn description(self) -> &'static str { match self { $( Self::$name => concat!($($doc),*), )* } }
        }
    };
}

scopes! {
    /// Start sessions and control them: input, method, restart, cancellation, desktop and terminal.
    Start = "start";
    /// Read sessions, their events and desktops (view-only), and the metadata of credentials.
    Read = "read";
    /// Lease, use and delete stored credentials.
    Lease = "lease";
    /// Operate the server: tokens, login links, reconciliation, support bundles, reports.
    Operate = "operate";
    /// Read the metrics.
    Metrics = "metrics";
    /// Read the audit log and the list of tokens.
    Audit = "audit";
}

/// A text that is not the name of a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope {0:?}; the scopes are start, read, lease, operate, metrics and audit")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let known = Self::ALL.iter().copied().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| UnknownScope(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes. As text: their names, separated by spaces, as OAuth writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Every scope.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Whether the set has this scope.
    pub fn contains(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// The scopes of this set that `other` lacks.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether the set has no scope.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes, in the order of [`Scope::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_one_text_in_lists_and_in_json() {
        for scope in Scope::ALL.iter().copied() {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(scope.as_str().parse::<Scope>(), Ok(scope));
        }
        let all = Scopes::all();
        assert_eq!(all.to_string(), "start read lease operate metrics audit");
        assert_eq!(all.to_string().parse::<Scopes>(), Ok(all.clone()));
        assert!("start root".parse::<Scopes>().is_err());
        let read: Scopes = [Scope::Read].into_iter().collect();
        assert!(read.without(&all).is_empty() && !all.without(&read).contains(Scope::Read));
    }
}

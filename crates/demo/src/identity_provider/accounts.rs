//! The names that behave differently: what an integrator otherwise needs real accounts for.

/// How the account of a name behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// Any other name.
    Ordinary,
    /// Its administrator denies access, whatever the person decides.
    Denies,
    /// Its tokens come late.
    Slow,
    /// It forbids device codes, and its tokens need a project.
    Workspace,
    /// Its password is always wrong.
    WrongPassword,
}

/// The names, each with a sentence for people.
pub(super) const NAMED_ACCOUNTS: [(&str, &str); 4] = [
    ("deny", "access is denied, whatever you choose"),
    ("slow", "the answer takes a while"),
    ("workspace", "device codes are forbidden, and the tool asks for a project"),
    ("wrong-password", "the password is never right"),
];

impl Account {
    /// The account of a name, in any letter case.
    pub(super) fn of(name: &str) -> Self {
        match name.trim().to_ascii_lowercase().as_str() {
            "deny" => Self::Denies,
            "slow" => Self::Slow,
            "workspace" => Self::Workspace,
            "wrong-password" => Self::WrongPassword,
            _ => Self::Ordinary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_account_is_not_ordinary() {
        for (name, _) in NAMED_ACCOUNTS {
            assert_ne!(Account::of(&name.to_uppercase()), Account::Ordinary, "{name}");
        }
        assert_eq!(Account::of("Ada"), Account::Ordinary);
    }
}

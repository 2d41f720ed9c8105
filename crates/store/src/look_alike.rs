//! Names that look like others: as a confusable of Unicode Technical Standard 39, or by blanks and case.

use unicode_security::skeleton;

/// Whether a person cannot tell two names apart: their letters look the same, whatever their alphabets, their case and the number of
/// blanks. A name looks like itself.
pub fn look_alike(one: &str, other: &str) -> bool {
    let (one, other) = (joined(one), joined(other));
    skeleton(&one).eq(skeleton(&other)) || skeleton(&one.to_lowercase()).eq(skeleton(&other.to_lowercase()))
}

/// The words with one blank between them.
fn joined(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_told_apart_look_alike() {
        // Cyrillic letters, Greek letters, one Cyrillic letter, case, blanks, digits.
        for name in ["ACME", "АСМЕ", "ΑCΜΕ", "AC\u{41c}E", "Acme", " ACME ", "аcme"] {
            assert!(look_alike("ACME", name), "{name}");
        }
        assert!(look_alike("build l", "build  1"));
        for (one, other) in
            [("ACME", "ACNE"), ("Мария", "Maria"), ("王小明", "王小朋"), ("a", "b"), ("worker 1", "worker 2")]
        {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }
}

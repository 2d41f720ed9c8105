//! Path patterns of the recipe: `*` matches any characters except `/`; a trailing `/` matches everything below the directory.

/// Whether `pattern` matches `path` (no leading `/` in either).
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('/') {
        None => {
            pattern.split('/').count() == path.split('/').count()
                && pattern.split('/').zip(path.split('/')).all(|(pattern, part)| component_matches(pattern, part))
        }
        Some(dir) => {
            let depth = dir.split('/').count();
            path.split('/').count() > depth
                && dir.split('/').zip(path.split('/')).all(|(pattern, part)| component_matches(pattern, part))
        }
    }
}

/// Whether one component of a pattern matches one component of a path.
fn component_matches(pattern: &str, part: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == part };
    let Some(mut left) = part.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return left.ends_with(piece);
        }
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn pattern_matches_its_paths_only() {
        for (pattern, path, expected) in [
            ("boot/", "boot", false),
            ("boot/", "boot/vmlinuz-6", true),
            ("boot/", "boot/grub/x", true),
            ("boot/", "bootx/y", false),
            ("etc/python3*/", "etc/python3.13/a", true),
            ("etc/python3*/", "etc/python3.13", false),
            ("etc/python3*/", "etc/python2/a", false),
            ("usr/bin/perl*", "usr/bin/perl5.40", true),
            ("usr/bin/perl*", "usr/bin/perl/x", false),
            ("a/*.TOC", "a/lib.so.TOC", true),
            ("a/*.TOC", "a/lib.so", false),
            ("a/*x*z", "a/1x2yz", true),
            ("a/*x*z", "a/1z2x", false),
            ("*", "a", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}

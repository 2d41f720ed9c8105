//! Names in the recipe: a path, `*` for any run of characters within one part of it, `/` at the end for all that is below.

/// Whether `pattern` names `path` (no leading `/` in either).
pub(super) fn names(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('/') {
        None => {
            pattern.split('/').count() == path.split('/').count()
                && pattern.split('/').zip(path.split('/')).all(|(pattern, part)| part_fits(pattern, part))
        }
        Some(above) => {
            let depth = above.split('/').count();
            path.split('/').count() > depth
                && above.split('/').zip(path.split('/')).all(|(pattern, part)| part_fits(pattern, part))
        }
    }
}

/// One part of a path against one part of a pattern.
fn part_fits(pattern: &str, part: &str) -> bool {
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
    use super::names;

    #[test]
    fn a_pattern_names_its_path_and_nothing_near_it() {
        for (pattern, path, fits) in [
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
            assert_eq!(names(pattern, path), fits, "{pattern} {path}");
        }
    }
}

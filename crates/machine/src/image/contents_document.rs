//! `docs/in_the_machine.md` says what the recipe, the lock of the packages and the guest's files say.

use super::{
    package_lock::PackageLock,
    recipe::{GUEST_FILES, Recipe},
};

const PAGE: &str = include_str!("../../../../docs/in_the_machine.md");

/// The names in backticks in the row of the table that begins with `head`.
fn names(head: &str) -> Vec<&'static str> {
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| {head} |")));
    row.unwrap().split('`').skip(1).step_by(2).collect()
}

/// Whether a package of the lock is named so.
fn is_locked(package: &str) -> bool {
    PackageLock::text().lines().any(|line| line.split(' ').next() == Some(package))
}

#[test]
fn page_names_the_release_the_user_and_the_tools() {
    let recipe = Recipe::parse_embedded().unwrap();
    assert_eq!(names("system"), [recipe.suite.as_str()]);
    let passwd = GUEST_FILES.iter().find(|file| file.path == "etc/passwd").unwrap();
    assert!(String::from_utf8_lossy(passwd.content).contains("user:*:1000:1000:User:/home/user:"));
    let tools = names("tools");
    for cli in &recipe.clis {
        assert!(tools.contains(&cli.name.as_str()), "{} is not on the page", cli.name);
    }
}

#[test]
fn programs_of_the_page_are_in_the_image() {
    let recipe = Recipe::parse_embedded().unwrap();
    for name in names("shells").into_iter().chain(names("programs")).filter(|name| !matches!(*name, "node" | "/bin/sh"))
    {
        assert!(is_locked(name), "no package {name}");
        assert!(!recipe.excludes_path(&format!("usr/bin/{name}")), "{name} is dropped");
    }
}

#[test]
fn programs_that_the_page_says_are_missing_are_in_no_package_or_dropped() {
    let recipe = Recipe::parse_embedded().unwrap();
    let packages = [("ssh", "openssh-client"), ("npx", "npm"), ("vi", "vim-tiny")];
    for name in names("**not there**") {
        let package = packages.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| *package);
        let is_dropped = recipe.excludes_path(&format!("usr/bin/{name}"));
        assert!(is_dropped || !is_locked(package), "{name} is in the image");
    }
}

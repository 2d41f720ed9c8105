//! A token's PIN that is locked, or that one more wrong attempt would lock.
//!
//! `SoftHSM` locks no PIN, so a library between it and the server reports the flags of a token and the results of a sign-in, and counts
//! the attempts.

use crate::s17_key_sources::{SOFTHSM, SoftToken};
use std::{fs, path::PathBuf, process::Command};

/// A PKCS#11 library that forwards to `SoftHSM`. In the list of functions, 6 is `C_GetTokenInfo` and 18 is `C_Login`; a token's flags
/// follow 96 bytes of texts.
const LIBRARY: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct { unsigned char version[8]; void *functions[68]; } list;
static unsigned long (*token_info)(unsigned long, unsigned char *);
static unsigned long (*login)(unsigned long, unsigned long, unsigned char *, unsigned long);

static unsigned long number(const char *name) { const char *text = getenv(name); return text ? strtoul(text, 0, 16) : 0; }

static unsigned long get_token_info(unsigned long slot, unsigned char *token) {
  unsigned long result = token_info(slot, token);
  *(unsigned long *)(token + 96) |= number("TOKEN_FLAGS");
  return result;
}

static unsigned long sign_in(unsigned long session, unsigned long user, unsigned char *pin, unsigned long size) {
  FILE *attempts = fopen(getenv("ATTEMPTS_FILE"), "a");
  fputs("1", attempts);
  fclose(attempts);
  return number("LOGIN_RESULT") ? number("LOGIN_RESULT") : login(session, user, pin, size);
}

unsigned long C_GetFunctionList(void **result) {
  unsigned long (*get)(void **) = dlsym(dlopen(getenv("REAL_LIBRARY"), RTLD_NOW), "C_GetFunctionList");
  void *real;
  unsigned long done = get(&real);
  memcpy(&list, real, sizeof list);
  token_info = list.functions[6];
  list.functions[6] = get_token_info;
  login = list.functions[18];
  list.functions[18] = sign_in;
  *result = &list;
  return done;
}
"#;

const FINAL_TRY: &str = "20000";
const LOCKED: &str = "40000";
const PIN_INCORRECT: &str = "a0";
const PIN_LOCKED: &str = "a4";

fn build_library(token: &SoftToken) -> PathBuf {
    let (source, library) = (token.path("library.c"), token.path("library.so"));
    fs::write(&source, LIBRARY).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    assert!(compiler.status().unwrap().success());
    library
}

#[test]
fn s17_wrong_pin_is_tried_once_and_neither_the_last_attempt_nor_a_locked_pin_at_all() {
    let Some(token) = SoftToken::create() else { return };
    let library = build_library(&token);
    let state = tempfile::tempdir().unwrap();
    let settings = token.settings("anteroom", "anteroom", &token.path("pin"), library.to_str().unwrap());
    // The first use creates keys.
    let direct = token.settings("anteroom", "anteroom", &token.path("pin"), SOFTHSM);
    assert!(token.list_keys_with(state.path(), &direct, &[]).status.success());
    let cases = [
        ("TOKEN_FLAGS", "0", "", 1),
        ("TOKEN_FLAGS", FINAL_TRY, "one attempt is left", 0),
        ("TOKEN_FLAGS", LOCKED, "is locked; unlock it", 0),
        ("LOGIN_RESULT", PIN_INCORRECT, "rejects the PIN", 1),
        ("LOGIN_RESULT", PIN_LOCKED, "is locked; unlock it", 1),
    ];
    for (number, (name, value, expected, attempts)) in cases.into_iter().enumerate() {
        let attempts_file = token.path(&format!("attempts {number}"));
        let variables = [("REAL_LIBRARY", SOFTHSM), ("ATTEMPTS_FILE", attempts_file.to_str().unwrap()), (name, value)];
        let output = token.list_keys_with(state.path(), &settings, &variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), expected.is_empty(), "{name} {value}: {text}");
        assert!(text.contains(expected), "{name} {value}: {text}");
        assert_eq!(fs::read_to_string(attempts_file).unwrap_or_default().len(), attempts, "{name} {value}");
    }
}

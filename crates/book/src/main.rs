//! `cargo run -p anteroom-book [REPOSITORY]` builds the book and prints the path of its first page.

use std::{path::PathBuf, process::ExitCode};

#[allow(clippy::print_stdout, reason = "its output is the path of the book")]
fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match anteroom_book::build(&root) {
        Ok(directory) => {
            println!("{}", directory.join("index.html").display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

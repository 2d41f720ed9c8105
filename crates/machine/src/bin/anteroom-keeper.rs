//! The keeper alone, without the server around it: `anteroom-keeper keeper RUN_DIR` is `anteroom keeper RUN_DIR` in a
//! smaller process.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [word, run_dir] if word == "keeper" => anteroom_machine::keeper::main(Path::new(run_dir)),
        _ => ExitCode::from(64),
    }
}

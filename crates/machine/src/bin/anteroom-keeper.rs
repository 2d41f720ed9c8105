//! The keeper as a separate, smaller program: `anteroom-keeper keeper RUN_DIR` does the same as `anteroom keeper RUN_DIR`.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [command, run_dir] if command == "keeper" => anteroom_machine::keeper::main(Path::new(run_dir)),
        _ => ExitCode::from(64),
    }
}

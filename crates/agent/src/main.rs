//! The agent's binary; the library has its content, so that the fuzz targets can use it too.

fn main() -> std::process::ExitCode {
    anteroom_agent::main()
}

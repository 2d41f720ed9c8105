//! Measures `anteroom exec`: bytes per second out of and into a command, and the start of a command; the same with `ssh` if its command
//! line is given.
//!
//! ```text
//! cargo build --release -p anteroom-testbed -p anteroom-agent -p anteroom-cli
//! cargo run --release -p anteroom-testbed --example measure_exec
//! cargo run --release -p anteroom-testbed --example measure_exec -- ssh -p 2222 127.0.0.1
//! ```

#![allow(clippy::print_stdout, reason = "a program that prints measurements")]

use anteroom_testbed::{Script, ScriptedProvider, Step, TestConfig, TestServer, WAIT_MAX, eventually, stats};
use anteroom_wire::api::{SessionList, SessionStatus};
use anyhow::{Context, ensure};
use std::process::Stdio;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::Instant,
};

const MEGABYTES: usize = 200;
const ROUNDS: usize = 5;
const STARTS: usize = 20;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let ssh: Vec<String> = std::env::args().skip(1).collect();
    let write = Step::write(ScriptedProvider::CREDENTIAL_PATH, "{\"token\": \"first\"}");
    let provider = ScriptedProvider::new("scripted", Script::new([write]));
    let server = TestServer::start(TestConfig::with_providers([provider])).await?;
    println!("{}", stats::host_summary());
    let api = server.backend_client()?;
    let signed_in = api.start_session("scripted").await?.session.id;
    let view = api.wait_status(&signed_in, SessionStatus::Completed).await?;
    let credential = view.credential.context("a credential")?.id.to_string();
    let new_machine = ["exec", "--credential", &credential, "--"].map(str::to_owned);
    let anteroom = |arguments: &[String]| -> anyhow::Result<Command> {
        let mut command = server.anteroom_command()?;
        command.args(arguments);
        Ok(command)
    };
    let mut main = anteroom(&new_machine)?;
    let mut main = main.arg("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let running = async || {
        let list: SessionList = api.get("/api/sessions").await?.parse()?;
        let running = list.sessions.iter().find(|session| session.credential_use.is_some());
        Ok(running.filter(|session| session.status == SessionStatus::VmStarted).map(|session| session.id.to_string()))
    };
    let session = eventually("the session", WAIT_MAX, running).await?;
    let in_session = ["exec", "--session", &session, "--"].map(str::to_owned);
    measure("exec", || anteroom(&in_session)).await?;
    if let [program, arguments @ ..] = &ssh[..] {
        let command = || {
            let mut command = Command::new(program);
            command.args(arguments);
            Ok(command)
        };
        measure("ssh", command).await?;
    }
    drop(main.stdin.take());
    main.wait().await?;
    let mut starts = Vec::new();
    for _ in 0..ROUNDS {
        starts.push(run(anteroom(&new_machine)?.arg("true"), 0, 0).await?);
    }
    print_median("exec in a new machine: start to end of `true`, ms", &mut starts, |seconds| seconds * 1000.0);
    println!("{}", stats::host_summary());
    server.stop_and_check_leaks().await
}

/// Measures commands that run what `command` is given.
async fn measure(name: &str, command: impl Fn() -> anyhow::Result<Command>) -> anyhow::Result<()> {
    let bytes = MEGABYTES * 1_000_000;
    let (mut outward, mut inward, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        outward.push(run(command()?.args(["head", "-c", &bytes.to_string(), "/dev/zero"]), 0, bytes).await?);
        inward.push(run(command()?.args(["wc", "-c"]), bytes, 0).await?);
    }
    for _ in 0..STARTS {
        starts.push(run(command()?.arg("true"), 0, 0).await?);
    }
    let rate = |seconds: f64| f64::from(u32::try_from(MEGABYTES).unwrap_or(0)) / seconds;
    print_median(&format!("{name}: out, MB/s"), &mut outward, rate);
    print_median(&format!("{name}: in, MB/s"), &mut inward, rate);
    print_median(&format!("{name}: start to end of `true`, ms"), &mut starts, |seconds| seconds * 1000.0);
    Ok(())
}

fn print_median(what: &str, seconds: &mut [f64], unit: impl Fn(f64) -> f64) {
    seconds.sort_by(f64::total_cmp);
    let (median, worst) = (seconds[seconds.len() / 2], seconds[seconds.len() - 1]);
    println!("{what}: {:.1}, worst {:.1} (n = {})", unit(median), unit(worst), seconds.len());
}

/// Runs the command with so many bytes of input, and reads its output, which has `output_bytes` or is only a number. Returns its seconds.
async fn run(command: &mut Command, input_bytes: usize, output_bytes: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("standard input")?;
    let feeding = tokio::spawn(async move {
        let part = vec![0; 64 * 1024];
        let mut left = input_bytes;
        while left > 0 {
            let count = left.min(part.len());
            stdin.write_all(&part[..count]).await?;
            left -= count;
        }
        std::io::Result::Ok(())
    });
    let (mut stdout, mut buffer, mut read) = (child.stdout.take().context("standard output")?, vec![0; 256 * 1024], 0);
    while let count @ 1.. = stdout.read(&mut buffer).await? {
        read += count;
    }
    feeding.await??;
    ensure!(child.wait().await?.success(), "the command failed");
    ensure!(output_bytes == 0 || read == output_bytes, "{read} bytes instead of {output_bytes}");
    Ok(started.elapsed().as_secs_f64())
}

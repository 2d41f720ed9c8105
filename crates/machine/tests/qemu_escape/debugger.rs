//! Makes calls in another process, with gdb.

use super::fixture::is_alive;
use std::{collections::BTreeMap, fs, path::Path, process::Stdio, time::Duration};

/// How long the calls of one script may take; a debugger is slow on a busy host.
const CALLS_MAX: Duration = Duration::from_secs(120);

/// What a call of a script returned, by the name of the attack; a call that did not return is missing.
pub(crate) struct Results {
    pub(crate) values: BTreeMap<String, i64>,
    /// What gdb printed.
    pub(crate) text: String,
}

/// One attack: gdb commands, then an expression whose value is the result.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) commands: Vec<String>,
    pub(crate) result: String,
}

/// Runs the scripts in the process `pid`. `dir`: for temporary files.
pub(crate) async fn run<'a>(pid: u32, dir: &Path, scripts: impl IntoIterator<Item = &'a Script>) -> Results {
    let mut text = String::from("set pagination off\nset confirm off\nhandle all nostop noprint pass\n");
    for script in scripts {
        for command in &script.commands {
            text += &format!("{command}\n");
        }
        text += &format!("printf \"result %s=%ld\\n\", \"{}\", (long)({})\n", script.name, script.result);
    }
    let (file, printed) = (dir.join("calls.gdb"), dir.join("gdb.log"));
    fs::write(&file, text).unwrap();
    let log = fs::File::create(&printed).unwrap();
    let mut gdb = tokio::process::Command::new("gdb")
        .args(["-nx", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off", "-iex", "set sysroot /"])
        .args(["-p", &pid.to_string(), "-batch", "-x"])
        .arg(&file)
        // A debugger that fails leaves a core file.
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .kill_on_drop(true)
        .spawn()
        .expect("gdb does not run: install it");
    let until = tokio::time::Instant::now() + CALLS_MAX;
    // A process that was killed ends only when gdb has released it, and gdb may wait for it: so gdb is killed then.
    while gdb.try_wait().unwrap().is_none() && is_alive(pid) {
        assert!(tokio::time::Instant::now() < until, "gdb did not end: {}", fs::read_to_string(&printed).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gdb.kill().await.unwrap();
    let text = fs::read_to_string(&printed).unwrap();
    let attached = !text.contains("ptrace: ");
    assert!(attached, "gdb cannot attach; kernel.yama.ptrace_scope must be 0: {text}");
    let values = text.lines().filter_map(|line| line.strip_prefix("result ")?.split_once('='));
    let values = values.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect();
    Results { values, text }
}

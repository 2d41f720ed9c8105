//! Another host: a network namespace that is connected with the test's by one cable. The test runs again in namespaces of its own, where
//! it may make them without being root.

use std::process::{Child, Command, Stdio};

/// Set in the second run.
const INSIDE: &str = "ANTEROOM_TEST_IN_NETWORK_NAMESPACE";

/// Whether this is the second run.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Returns true in the second run. In the first run this runs the test `name` (with its module path) as root of a user namespace and of
/// a network namespace, and panics if it fails there or the host does not permit it.
pub(crate) fn rerun_inside(name: &str) -> bool {
    if !is_inside() {
        rerun_in(&["--user", "--map-root-user", "--net"], name, &[]);
    }
    is_inside()
}

/// Runs the test `name` again in these new namespaces (options of `unshare`), with these variables.
#[allow(clippy::disallowed_methods, reason = "starts the test again")]
pub(crate) fn rerun_in(namespaces: &[&str], name: &str, variables: &[(&str, &str)]) {
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).arg("--").arg(std::env::current_exe().unwrap()).envs(variables.iter().copied());
    let output = unshare.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    eprintln!("{out}\n{errors}");
    assert!(
        output.status.success(),
        "{name} failed in its namespace ({}); user namespaces need user.max_user_namespaces above 0, and where the kernel has them \
         kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0",
        output.status
    );
    // A wrong name would run no test and succeed.
    assert!(out.contains("test result: ok. 1 passed"), "{name} was not run");
}

/// In the second run: the test can reach itself at 127.0.0.1.
pub(crate) fn raise_loopback_inside() {
    if is_inside() {
        ip("link set lo up");
    }
}

/// The other host. Its namespace ends with the process that holds it.
pub(crate) struct OtherHost {
    holder: Child,
}

impl OtherHost {
    /// The address at which it reaches the test.
    pub(crate) const SERVER_ADDRESS: &str = "10.77.0.1";
    /// Its own address.
    pub(crate) const CLIENT_ADDRESS: &str = "10.77.0.2";

    #[allow(clippy::disallowed_methods, reason = "holds a namespace")]
    pub(crate) fn start() -> Self {
        let mut holder = Command::new("unshare");
        // It ends when its input is closed. The line says that the namespace exists.
        holder.args(["--net", "sh", "-c", "echo ready; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        let host = Self { holder };
        let namespace = host.holder.id().to_string();
        ip("link set lo up");
        ip(&format!("link add server type veth peer name client netns {namespace}"));
        ip(&format!("addr add {}/24 dev server", Self::SERVER_ADDRESS));
        ip("link set server up");
        host.ip(&format!("addr add {}/24 dev client", Self::CLIENT_ADDRESS));
        host.ip("link set client up");
        host.ip("link set lo up");
        host
    }

    /// A command that runs on the other host.
    pub(crate) fn command(&self, program: &std::path::Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command.arg(self.namespace()).arg("--").arg(program);
        command
    }

    pub(crate) fn stop(mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }

    fn namespace(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    fn ip(&self, arguments: &str) {
        run("nsenter", [&self.namespace(), "--", "ip"].into_iter().chain(arguments.split(' ')));
    }
}

fn ip(arguments: &str) {
    run("ip", arguments.split(' '));
}

#[allow(clippy::disallowed_methods, reason = "configures a namespace")]
fn run<'a>(program: &str, arguments: impl Iterator<Item = &'a str>) {
    let output = Command::new(program).args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

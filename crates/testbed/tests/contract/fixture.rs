//! A server whose machines run a released tool with a fake identity provider, and reports from these machines.
//!
//! ```text
//!  descriptor of the product ─▶ the same, with the test's authority and a reporting script ─▶ [providers.ID] of the server
//!  machine ── through its proxy and the egress gate ─▶ fake issuer (under the provider's names), Reporter (report.contract.test)
//! ```

use super::user::User;
use anteroom_machine::image::Image;
use anteroom_testbed::{
    QEMU_WAIT_TIMEOUT, Qemu, TestCa, TestConfig, TestServer, eventually, native_cli::load_descriptor,
};
use anteroom_wire::provider::{EgressRule, Provider, SettingsFile};
use axum::{Router, extract::State, http::Uri};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle};

const REPORT: &str = "report.contract.test";
const RUN: &str = include_str!("../../fixtures/contract/run.sh");
/// The user's home directory in the guest.
const HOME: &str = "/home/user";

/// Whether the machine's browser trusts the test's certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Browser {
    TrustsTestCa,
    WithoutTestCa,
}

/// The server, its provider, the user, and the reports of its machines.
pub(crate) struct Fixture {
    pub(crate) server: TestServer<Qemu>,
    pub(crate) provider: Provider,
    pub(crate) reporter: Reporter,
    pub(crate) user: User,
    /// The tool's version in the image.
    pub(crate) version: String,
}

impl Fixture {
    /// Starts a server with the provider `id`. The hosts of its issuer are at `host_overrides`, with certificates of `ca`; `trust` is
    /// the environment variable by which the tool is configured to trust another authority.
    pub(crate) async fn open(
        id: &str,
        ca: TestCa,
        trust: &str,
        browser: Browser,
        mut host_overrides: BTreeMap<String, SocketAddr>,
    ) -> Self {
        let user = User { ca, host_overrides: host_overrides.clone() };
        let reporter = Reporter::start().await;
        host_overrides.insert(format!("{REPORT}:80"), reporter.address);
        let product = load_descriptor(id).unwrap();
        let provider = test_descriptor(product, &user.ca, trust, browser);
        let providers = BTreeMap::from([(id.to_owned(), &provider)]);
        let mut settings = toml::Table::new();
        settings.insert("providers".to_owned(), toml::Value::try_from(providers).unwrap());
        // Long enough for the reporting script to read the file too.
        settings.insert(
            "sessions".to_owned(),
            toml::Value::try_from(BTreeMap::from([("capture_stable_ms", 3_000)])).unwrap(),
        );
        let config = TestConfig { host_overrides, ..TestConfig::qemu(&settings.to_string()) };
        let server = TestServer::start(config).await.unwrap();
        let image = std::env::var_os("ANTEROOM_TEST_IMAGE").unwrap();
        let version = Image::open(Path::new(&image)).unwrap().manifest.clis[&provider.cli].clone();
        Self { server, provider, reporter, user, version }
    }

    /// Stops the server. `unknown_calls`: the tool's requests for which the issuer has no endpoint.
    pub(crate) async fn close(self, unknown_calls: Vec<String>) {
        assert_eq!(unknown_calls, Vec::<String>::new(), "the tool sent a new kind of request");
        self.server.stop_and_check_leaks().await.unwrap();
    }
}

/// The product's descriptor with an additional certificate authority, the reporting script, and egress to the test.
fn test_descriptor(mut provider: Provider, ca: &TestCa, trust: &str, browser: Browser) -> Provider {
    let file = |name: &str, content: String| SettingsFile { path: format!(".contract/{name}"), content };
    let mut files = vec![file("run.sh", RUN.to_owned())];
    if browser == Browser::TrustsTestCa {
        files.push(file("cert9.db.gz.base64", browser_store(ca)));
    }
    provider.argv = with_reporting(&provider.argv);
    provider.settings_files.extend(files.clone());
    for method in provider.methods.values_mut() {
        method.argv = method.argv.as_deref().map(with_reporting);
        method.settings_files.iter_mut().for_each(|settings| settings.extend(files.clone()));
    }
    ca.trusted_by(&mut provider, trust);
    let names: Vec<_> = provider.credential.paths.iter().chain(&provider.credential.companions).cloned().collect();
    assert!(
        names.iter().all(|name| !name.contains([' ', '*', '?', '['])),
        "the script splits the list at blanks: {names:?}"
    );
    provider.env.insert("CONTRACT_FILES".to_owned(), names.join(" "));
    provider.egress.push(EgressRule { host: REPORT.to_owned(), ports: vec![80], reason: String::new() });
    assert_eq!(provider.validation_errors(), Vec::<String>::new());
    provider
}

/// The command, run by the reporting script.
fn with_reporting(argv: &[String]) -> Vec<String> {
    let run = ["bash".to_owned(), format!("{HOME}/.contract/run.sh")];
    run.into_iter().chain(argv.iter().cloned()).collect()
}

/// Chromium's certificate store (NSS) with the authority, compressed and encoded as base64.
fn browser_store(ca: &TestCa) -> String {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    fs::write(&pem, ca.pem()).unwrap();
    let store = format!("sql:{}", dir.path().display());
    for args in [&["-N", "--empty-password"][..], &["-A", "-n", "contract", "-t", "C,,", "-i", pem.to_str().unwrap()]] {
        let done = Command::new("certutil").args(["-d", &store]).args(args).output();
        let done = done.expect("certutil is installed (Debian: libnss3-tools)");
        assert!(done.status.success(), "certutil: {}", String::from_utf8_lossy(&done.stderr));
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&fs::read(dir.path().join("cert9.db")).unwrap()).unwrap();
    STANDARD.encode(packed.finish().unwrap())
}

/// Receives the reports of the script in the machines.
pub(crate) struct Reporter {
    address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Reporter {
    async fn start() -> Self {
        let received: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(received.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, received, task }
    }

    /// All reports, in order.
    pub(crate) fn all(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// The last report about each of the credential's files, by file name. Waits until there are `count`.
    pub(crate) async fn files(&self, count: usize) -> BTreeMap<String, FileDigest> {
        let reported = eventually("every file is reported", QEMU_WAIT_TIMEOUT, async || {
            let files: BTreeMap<_, _> = self.all().iter().filter_map(|report| parse_file(report)).collect();
            Ok((files.len() >= count).then_some(files))
        });
        reported.await.unwrap_or_else(|error| panic!("{error}: {:?}", self.all()))
    }

    /// The tool's processes, each with its start time.
    pub(crate) fn processes(&self) -> Vec<String> {
        let all = self.all();
        let process = |report: &String| {
            let (process, name) = report.strip_prefix("process/")?.rsplit_once('/')?;
            (name != "exited").then(|| process.to_owned())
        };
        let mut found: Vec<_> = all.iter().filter_map(process).collect();
        found.dedup();
        found
    }
}

/// A file's SHA-256 and permissions, both as text.
pub(crate) type FileDigest = (String, String);

fn parse_file(report: &str) -> Option<(String, FileDigest)> {
    let mut parts = report.strip_prefix("file/")?.splitn(3, '/').map(str::to_owned);
    let (digest, mode) = (parts.next()?, parts.next()?);
    Some((parts.next()?, (digest, mode)))
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(received): State<Arc<Mutex<Vec<String>>>>, uri: Uri) {
    received.lock().unwrap().push(uri.path().trim_start_matches('/').to_owned());
}

//! A server whose machines run a released tool against a stand-in issuer, and what those machines tell of themselves.
//!
//! ```text
//!  descriptor of the product ─▶ the same, with the test's authority and a watch beside the tool ─▶ [providers.ID] of the server
//!  machine ── through its proxy and the egress gate ─▶ stand-in issuer (under the provider's names), Reporter (report.contract.test)
//! ```

use super::user::User;
use anteroom_machine::image::Image;
use anteroom_testbed::{QemuServer, TestCa, native_cli::descriptor, qemu_server::QEMU_WAIT_MAX};
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
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

const REPORT: &str = "report.contract.test";
const RUN: &str = include_str!("../../fixtures/contract/run.sh");
/// The guest's home.
const HOME: &str = "/home/user";

/// Whether the machine's browser shall believe the test's authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Browser {
    TrustsTestCa,
    WithoutTestCa,
}

/// The server, its tool, who signs in and what is told of it.
pub(crate) struct Fixture {
    pub(crate) server: QemuServer,
    pub(crate) provider: Provider,
    pub(crate) reporter: Reporter,
    pub(crate) user: User,
    /// As the image has it.
    pub(crate) version: String,
}

impl Fixture {
    /// Opens a server with the provider `id`, whose issuer host_overrides as `host_overrides` says with certificates of `ca`. `trust` is the name
    /// of the environment variable by which the tool is told of another authority.
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
        let product = descriptor(id).unwrap();
        let provider = overridden(product, &user.ca, trust, browser);
        let providers = BTreeMap::from([(id.to_owned(), &provider)]);
        let mut settings = toml::Table::new();
        settings.insert("providers".to_owned(), toml::Value::try_from(providers).unwrap());
        // Long enough for the watch to see the file as well.
        settings.insert(
            "sessions".to_owned(),
            toml::Value::try_from(BTreeMap::from([("capture_stable_ms", 3_000)])).unwrap(),
        );
        let server = QemuServer::start(&settings.to_string(), &host_overrides, false).await.unwrap();
        let image = std::env::var_os("ANTEROOM_TEST_IMAGE").unwrap();
        let version = Image::open(Path::new(&image)).unwrap().manifest.clis[&provider.cli].clone();
        Self { server, provider, reporter, user, version }
    }

    /// Ends the server. `unknown_calls`: what the tool asked for that the issuer does not have.
    pub(crate) async fn close(self, unknown_calls: Vec<String>) {
        assert_eq!(unknown_calls, Vec::<String>::new(), "the tool asked for something new");
        self.server.finish().await.unwrap();
    }
}

/// The product's descriptor with what only a test needs: an authority to believe, the watch, and its way to the test.
fn overridden(mut provider: Provider, ca: &TestCa, trust: &str, browser: Browser) -> Provider {
    let file = |name: &str, content: String| SettingsFile { path: format!(".contract/{name}"), content };
    let mut files = vec![file("ca.pem", ca.pem()), file("run.sh", RUN.to_owned())];
    if browser == Browser::TrustsTestCa {
        files.push(file("cert9.db.gz.base64", browser_store(ca)));
    }
    provider.argv = watched(&provider.argv);
    provider.settings_files.extend(files.clone());
    for method in provider.methods.values_mut() {
        method.argv = method.argv.as_deref().map(watched);
        method.settings_files.iter_mut().for_each(|own| own.extend(files.clone()));
    }
    provider.env.insert(trust.to_owned(), format!("{HOME}/.contract/ca.pem"));
    let names: Vec<_> = provider.credential.paths.iter().chain(&provider.credential.companions).cloned().collect();
    assert!(names.iter().all(|name| !name.contains([' ', '*', '?', '['])), "the watch takes them for words: {names:?}");
    provider.env.insert("CONTRACT_FILES".to_owned(), names.join(" "));
    provider.egress.push(EgressRule { host: REPORT.to_owned(), ports: vec![80] });
    assert_eq!(provider.faults(), Vec::<String>::new());
    provider
}

/// The command with the watch beside it.
fn watched(argv: &[String]) -> Vec<String> {
    let run = ["bash".to_owned(), format!("{HOME}/.contract/run.sh")];
    run.into_iter().chain(argv.iter().cloned()).collect()
}

/// A store of Chromium's (NSS) that holds the authority, packed as text.
fn browser_store(ca: &TestCa) -> String {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    fs::write(&pem, ca.pem()).unwrap();
    let store = format!("sql:{}", dir.path().display());
    for args in [&["-N", "--empty-password"][..], &["-A", "-n", "contract", "-t", "C,,", "-i", pem.to_str().unwrap()]] {
        let done = Command::new("certutil").args(["-d", &store]).args(args).output();
        let done = done.expect("certutil is there (Debian: libnss3-tools)");
        assert!(done.status.success(), "certutil: {}", String::from_utf8_lossy(&done.stderr));
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&fs::read(dir.path().join("cert9.db")).unwrap()).unwrap();
    STANDARD.encode(packed.finish().unwrap())
}

/// What the watch in the machines told.
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

    /// Everything, in order.
    pub(crate) fn all(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// The credential's files as they were last in the machine, by their names; waits until there are this many.
    pub(crate) async fn files(&self, count: usize) -> BTreeMap<String, FileDigest> {
        let until = Instant::now() + QEMU_WAIT_MAX;
        loop {
            let files: BTreeMap<_, _> = self.all().iter().filter_map(|told| seen(told)).collect();
            if files.len() >= count {
                return files;
            }
            assert!(Instant::now() < until, "the machine told of {files:?} alone: {:?}", self.all());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The tool's processes, each with the time at which it began.
    pub(crate) fn processes(&self) -> Vec<String> {
        let all = self.all();
        let process = |told: &String| {
            let (process, name) = told.strip_prefix("process/")?.rsplit_once('/')?;
            (name != "gone").then(|| process.to_owned())
        };
        let mut found: Vec<_> = all.iter().filter_map(process).collect();
        found.dedup();
        found
    }
}

/// A file: SHA-256 and permissions, both as text.
pub(crate) type FileDigest = (String, String);

fn seen(told: &str) -> Option<(String, FileDigest)> {
    let mut parts = told.strip_prefix("file/")?.splitn(3, '/').map(str::to_owned);
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

//! PostgreSQL over TLS, with a password, and lists of servers of which some cannot be used.

use crate::{Flags, postgres::own_server::OwnServer};
use anteroom_store::{Address, PostgresAddress, Store, StoreSettings};
use anteroom_testbed::{TestCa, TestConfig, TestServer};
use anteroom_wire::Secret;
use sqlx::{AnyConnection, Connection, Executor};
use std::{
    error::Error,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

const PASSWORD: &str = "canary-of-the-password-over-tls";
const NOBODY: u32 = 65_534;
/// Over TCP, only with TLS and a password.
const RULES: &str = "local all all trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n";

/// A file that the server reads, which is `nobody` in a test of root.
fn write_for_server(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Two addresses of the loopback network that no other test has.
fn addresses() -> [String; 2] {
    let mut random = [0; 2];
    getrandom::fill(&mut random).unwrap();
    ["2", "3"].map(|last| format!("127.{}.{}.{last}", random[0] | 1, random[1]))
}

/// A server that speaks TLS with a certificate for the first of two addresses, and the files of two authorities.
struct TlsServer {
    postgres: OwnServer,
    addresses: [String; 2],
    /// Its own authority, and another.
    authorities: [PathBuf; 2],
}

impl TlsServer {
    async fn start() -> Self {
        let mut postgres = OwnServer::start(&[]).await;
        let directory = PathBuf::from(postgres.directory());
        let mut sql = connect(&postgres).await;
        sql.execute(sqlx::AssertSqlSafe(format!("ALTER ROLE anteroom PASSWORD '{PASSWORD}'"))).await.unwrap();
        sql.execute("CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on")
            .await
            .unwrap();
        sql.close().await.unwrap();
        postgres.stop();
        let (addresses, ca) = (addresses(), TestCa::new().unwrap());
        let (certificate, key) = ca.issue(&[&addresses[0]], false).unwrap();
        let authorities = ["own.pem", "other.pem"].map(|name| directory.join(name));
        fs::write(&authorities[0], ca.pem()).unwrap();
        fs::write(&authorities[1], TestCa::new().unwrap().pem()).unwrap();
        let [certificate_file, key_file] = ["server.pem", "server.key"].map(|name| directory.join(name));
        write_for_server(&certificate_file, &certificate.pem());
        write_for_server(&key_file, &key.serialize_pem());
        write_for_server(&directory.join("data/pg_hba.conf"), RULES);
        let listen = format!("listen_addresses={}", addresses.join(","));
        let files =
            [format!("ssl_cert_file={}", certificate_file.display()), format!("ssl_key_file={}", key_file.display())];
        postgres.start_again(&["-c", &listen, "-c", "ssl=on", "-c", &files[0], "-c", &files[1]]).await;
        Self { postgres, addresses, authorities }
    }

    /// A list of servers, of which some speak no TLS.
    fn list(hosts: &str) -> String {
        format!("postgresql://anteroom@{hosts}/postgres")
    }

    fn url(&self, hosts: &str, authority: usize) -> String {
        let file = self.authorities[authority].display();
        format!("postgresql://anteroom@{hosts}/postgres?sslmode=verify-full&sslrootcert={file}")
    }
}

async fn connect(postgres: &OwnServer) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(&format!("postgresql:///postgres?user=anteroom&host={}", postgres.directory()))
        .await
        .unwrap()
}

/// Opens a database; `Err`: why it cannot be used.
async fn open(url: &str, password: &str) -> Result<(), String> {
    let address: PostgresAddress = url.parse().unwrap();
    let address = Address::Postgres(address.with_password(Some(Secret::new(password.to_owned()))));
    let settings = StoreSettings { connect_ms_max: 0, ..StoreSettings::default() };
    match Store::open(&address, settings).await {
        Ok(store) => {
            store.close().await;
            Ok(())
        }
        Err(error) => {
            let text = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
            assert!(!text.contains(PASSWORD), "{text}");
            Err(text)
        }
    }
}

async fn refused(url: &str, password: &str, parts: &[&str]) {
    let text = open(url, password).await.unwrap_err();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
}

#[tokio::test]
async fn server_connects_over_tls_and_everything_that_is_wrong_is_named_on_postgres() {
    let tls = TlsServer::start().await;
    let [named, unnamed] = &tls.addresses;
    open(&tls.url(named, 0), PASSWORD).await.unwrap();
    refused(&tls.url(named, 1), PASSWORD, &[named, "invalid peer certificate"]).await;
    refused(&tls.url(unnamed, 0), PASSWORD, &[unnamed, "certificate", "name"]).await;
    refused(&tls.url(named, 0), "another", &["password authentication failed"]).await;
    let plain = tls.url(named, 0).replace("verify-full", "disable");
    refused(&plain, PASSWORD, &["no encryption"]).await;
    let reader = format!("postgresql://reader@/postgres?host={}", tls.postgres.directory());
    refused(&reader, PASSWORD, &["it accepts no writes", "default_transaction_read_only"]).await;

    // A standby, and an address where no server is, before the one that can be used.
    let replica = ["-c", "wal_level=replica"];
    let mut standby = OwnServer::start(&replica).await;
    standby.stop();
    let directory = PathBuf::from(standby.directory());
    write_for_server(&directory.join("data/standby.signal"), "");
    standby.start_again(&replica).await;
    let standby = standby.directory().replace('/', "%2F");
    refused(&TlsServer::list(&standby), PASSWORD, &["it is a standby and accepts no writes"]).await;
    let none = format!("{named}:1");
    let parts = [&none, "refused", directory.to_str().unwrap(), "it is a standby"];
    refused(&TlsServer::list(&format!("{none},{standby}")), PASSWORD, &parts).await;
    let list = TlsServer::list(&format!("{none},{standby},{named}"));
    open(&list, PASSWORD).await.unwrap();

    // A server with that list: the password is in its file only.
    let password = tls.authorities[0].with_file_name("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = format!("[database]\nurl = '{list}'\npassword_file = '{}'\n", password.display());
    let flags = Flags::new();
    let config = TestConfig::with_provider(flags.provider("{}")).with_settings(&settings);
    let server = TestServer::start(config).await.unwrap();
    server.operator_client().unwrap().get("/health").await.unwrap();
    let pid = server.server_pid().unwrap();
    let process = |file: &str| {
        String::from_utf8_lossy(&fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap()).into_owned()
    };
    let shown = server.run_anteroom(&["config", "show"]).await.unwrap();
    assert!(shown.contains("password_file"), "{shown}");
    let log = server.read_log() + &fs::read_to_string(server.state_dir().join("log/anteroom.jsonl")).unwrap();
    assert!(log.contains("database_opened"), "{log}");
    for text in [&shown, &log, &process("cmdline"), &process("environ")] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    server.stop_and_check_leaks().await.unwrap();
}

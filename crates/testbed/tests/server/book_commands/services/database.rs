//! docs/postgresql.md: a database for a server.

use super::{Host, block_of};
use crate::{
    book_commands::Mark,
    network_namespace::{is_inside, rerun_in},
    postgres::own_server::OwnServer,
};
use std::{fs, net::TcpListener, path::Path};
use tokio::process::Command;

/// The port of the database, for the test that runs again in a namespace.
const PORT: &str = "ANTEROOM_TEST_DATABASE_OF_THE_DOCUMENTS";
const PASSWORD: &str = "password-of-the-documents";

/// Runs SQL as this user, with the rights of a superuser.
async fn sql(directory: &str, port: &str, user: &str, statement: &str) -> String {
    let mut psql = Command::new("psql");
    psql.args(["-h", directory, "-p", port, "-U", user, "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", statement]);
    let output = psql.output().await.unwrap();
    assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A server of PostgreSQL as Debian sets it up: its superuser is `postgres`, and who comes over TCP has a password.
async fn database(port: u16) -> OwnServer {
    let port = port.to_string();
    let server = OwnServer::start(&["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]).await;
    let directory = server.directory();
    sql(&directory, &port, "anteroom", "CREATE ROLE postgres SUPERUSER LOGIN").await;
    sql(&directory, &port, "postgres", "ALTER ROLE anteroom RENAME TO installer").await;
    let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(Path::new(&directory).join("data/pg_hba.conf"), rules).unwrap();
    sql(&directory, &port, "postgres", "SELECT pg_reload_conf()").await;
    server
}

#[tokio::test]
async fn database_is_set_up_as_documented() {
    let name = "book_commands::services::database::database_is_set_up_as_documented";
    let mut own = None;
    let port = match std::env::var(PORT) {
        Ok(port) => port,
        Err(_) => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string(),
    };
    if !is_inside() {
        let server = own.insert(database(port.parse().unwrap()).await);
        if !rustix::process::geteuid().is_root() {
            let directory = server.directory();
            rerun_in(&["--user", "--map-root-user"], name, &[(PORT, &port), ("PGHOST", &directory)]);
            return;
        }
    }
    let directory = own.as_ref().map_or_else(|| std::env::var("PGHOST").unwrap(), OwnServer::directory);
    let host = Host::new("").await;
    // The user of the service, who is the one of this test.
    let without = |text: String| {
        text.lines().filter(|line| !line.starts_with("anteroom:")).fold(String::new(), |all, line| all + line + "\n")
    };
    host.change("passwd", |text| without(text) + "anteroom:x:0:0::/nonexistent:/usr/sbin/nologin\n");
    let mut lines = 0;
    for line in block_of("docs/postgresql.md", Mark::WithDatabase).lines() {
        let line = line.replace("@db.example/", &format!("@127.0.0.1:{port}/"));
        let input =
            if line.contains("createuser") { format!("{PASSWORD}\n{PASSWORD}\n") } else { format!("{PASSWORD}\n") };
        // Without a terminal, PINs and passwords are read from standard input.
        let mut unshare = Command::new("setsid");
        unshare.args(["--wait", "unshare"]).env("PGHOST", &directory).env("PGPORT", &port).env("PGUSER", "postgres");
        let (succeeded, printed) = host.run(unshare, host.home.path(), &line, &input).await;
        if line == "anteroom doctor" {
            // It also fails for what this host lacks.
            assert!(printed.contains("PostgreSQL 1") && printed.contains("synchronous_commit"), "{printed}");
        } else {
            assert!(succeeded, "{line}: {printed}");
        }
        lines += 1;
    }
    assert_eq!(lines, 6);
    let opened = host.log();
    assert!(opened.contains("database_opened") && !opened.contains(PASSWORD), "{opened}");
    let owner = "SELECT pg_get_userbyid(datdba) || ' ' || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'anteroom'";
    assert_eq!(sql(&directory, &port, "postgres", owner).await, "anteroom UTF8");
}

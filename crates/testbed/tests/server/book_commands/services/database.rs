//! docs/postgresql.md: a database for a server, the move of a server's data into it, and a dump that is restored.

use super::{Host, blocks_of};
use crate::{
    book_commands::{Mark, write_program},
    network_namespace::{is_inside, rerun_in},
    postgres::own_server::OwnServer,
};
use serde_json::Value;
use std::{fs, net::TcpListener, path::Path};
use tokio::process::Command;

/// The port of the database, for the test that runs again in a namespace.
const PORT: &str = "ANTEROOM_TEST_DATABASE_OF_THE_DOCUMENTS";
const PASSWORD: &str = "password-of-the-documents";

/// Where a server of PostgreSQL is.
struct Database {
    /// The directory of its socket.
    directory: String,
    port: String,
}

impl Database {
    /// Starts a server as Debian sets it up: its superuser is `postgres`, and who comes over TCP has a password.
    async fn start(port: String) -> (OwnServer, Self) {
        let server = OwnServer::start(&["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]).await;
        let database = Self { directory: server.directory(), port };
        database.sql("anteroom", "CREATE ROLE postgres SUPERUSER LOGIN").await;
        database.sql("postgres", "ALTER ROLE anteroom RENAME TO installer").await;
        let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(Path::new(&database.directory).join("data/pg_hba.conf"), rules).unwrap();
        database.sql("postgres", "SELECT pg_reload_conf()").await;
        (server, database)
    }

    /// Runs SQL as this superuser.
    async fn sql(&self, user: &str, statement: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-h", &self.directory, "-p", &self.port, "-U", user, "-d", "postgres", "-v", "ON_ERROR_STOP=1"]);
        let output = psql.args(["-Atc", statement]).output().await.unwrap();
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A host on which this test's user is the one of the service.
    async fn host(&self) -> Host {
        let host = Host::new("").await;
        let without = |text: String| {
            text.lines()
                .filter(|line| !line.starts_with("anteroom:"))
                .fold(String::new(), |all, line| all + line + "\n")
        };
        host.change("passwd", |text| without(text) + "anteroom:x:0:0::/nonexistent:/usr/sbin/nologin\n");
        host
    }

    /// Runs a documented line; returns whether it succeeded, and what it printed.
    async fn try_line(&self, host: &Host, line: &str) -> (bool, String) {
        let line = line.replace("@db.example/", &format!("@127.0.0.1:{}/", self.port));
        let line = line.replace("/var/lib/anteroom", host.home.path().join("state").to_str().unwrap());
        let input =
            if line.contains("createuser") { format!("{PASSWORD}\n{PASSWORD}\n") } else { format!("{PASSWORD}\n") };
        // Without a terminal, PINs and passwords are read from standard input.
        let mut unshare = Command::new("setsid");
        unshare
            .args(["--wait", "unshare"])
            .env("PGHOST", &self.directory)
            .env("PGPORT", &self.port)
            .env("PGUSER", "postgres");
        host.run(unshare, host.home.path(), &line, &input).await
    }

    async fn run(&self, host: &Host, line: &str) -> String {
        let (succeeded, printed) = self.try_line(host, line).await;
        assert!(succeeded, "{line}: {printed}\n{}", host.log());
        printed
    }

    /// Replaces the database by an empty one, with a documented line.
    async fn empty(&self, host: &Host, create: &str) {
        self.sql("postgres", "DROP DATABASE anteroom WITH (FORCE)").await;
        self.run(host, create).await;
    }
}

/// What a caller with this token gets from the server of a host.
async fn list_sessions(database: &Database, host: &Host, token: &str) -> (bool, String) {
    let ready: Value = serde_json::from_str(&fs::read_to_string(host.directory().join("ready")).unwrap()).unwrap();
    let server = format!("ANTEROOM_SERVER=http://{} ANTEROOM_TOKEN={token}", ready["address"].as_str().unwrap());
    database.try_line(host, &format!("{server} anteroom sessions")).await
}

async fn set_up(database: &Database, lines: &[&str]) {
    let host = database.host().await;
    for line in lines {
        if *line == "anteroom doctor" {
            // It also fails for what this host lacks.
            let (_, printed) = database.try_line(&host, line).await;
            assert!(printed.contains("PostgreSQL 1") && printed.contains("synchronous_commit"), "{printed}");
        } else {
            database.run(&host, line).await;
        }
    }
    let opened = host.log();
    assert!(opened.contains("database_opened") && !opened.contains(PASSWORD), "{opened}");
    let owner = "SELECT pg_get_userbyid(datdba) || ' ' || pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'anteroom'";
    assert_eq!(database.sql("postgres", owner).await, "anteroom UTF8");
    database.run(&host, "sudo systemctl stop anteroom").await;
}

/// Moves the data of a server that has a token; returns its host, and the token.
async fn move_data(database: &Database, lines: &[&str], settings: &str) -> (Host, String) {
    let host = database.host().await;
    database.run(&host, "sudo systemctl start anteroom").await;
    let token = database.run(&host, "anteroom token create backend").await.trim().to_owned();
    assert!(list_sessions(database, &host, &token).await.0, "{token}");
    let edit = settings.replace("@db.example/", &format!("@127.0.0.1:{}/", database.port));
    write_program(&host.home.path().join("bin/editor"), &format!("#!/bin/sh\n{edit} >> \"$1\"\n"));
    for line in lines {
        database.run(&host, line).await;
    }
    let connections = "SELECT numbackends FROM pg_stat_database WHERE datname = 'anteroom'";
    assert_ne!(database.sql("postgres", connections).await, "0", "the server uses the database");
    for file in ["moved.tar.gz", "anteroom.db"] {
        assert!(!host.home.path().join("state").join(file).exists(), "{file}");
    }
    let (is_known, printed) = list_sessions(database, &host, &token).await;
    assert!(is_known, "the token moved: {printed}");
    (host, token)
}

#[tokio::test]
async fn database_is_set_up_filled_and_restored_as_documented() {
    let name = "book_commands::services::database::database_is_set_up_filled_and_restored_as_documented";
    let port = std::env::var(PORT)
        .unwrap_or_else(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string());
    let mut own = None;
    let database = if is_inside() {
        Database { directory: std::env::var("PGHOST").unwrap(), port }
    } else {
        let (server, database) = Database::start(port).await;
        own = Some(server);
        database
    };
    if !is_inside() && !rustix::process::geteuid().is_root() {
        let variables = [(PORT, database.port.as_str()), ("PGHOST", &database.directory)];
        rerun_in(&["--user", "--map-root-user"], name, &variables);
        return;
    }
    let blocks = blocks_of::<3>("docs/postgresql.md", Mark::WithDatabase);
    let [lines, moving, dump] = blocks.each_ref().map(|block| block.lines().collect::<Vec<_>>());
    let [_, create, _, configure, ..] = lines[..] else { panic!("{lines:?}") };
    assert!(create.contains("createdb"), "{create}");
    set_up(&database, &lines).await;

    let (settings, _) = configure.split_once(" | sudo tee").unwrap();
    let host = database.host().await;
    database.empty(&host, create).await;
    drop(host);
    let (host, token) = move_data(&database, &[&[lines[2]], &moving[..]].concat(), settings).await;

    let [save, restore] = dump[..] else { panic!("{dump:?}") };
    database.run(&host, save).await;
    database.run(&host, "sudo systemctl stop anteroom").await;
    database.empty(&host, create).await;
    database.run(&host, restore).await;
    database.run(&host, "sudo systemctl start anteroom").await;
    assert!(list_sessions(&database, &host, &token).await.0, "the token is in the dump");
    let audit = database.run(&host, "anteroom audit tail").await;
    assert!(audit.contains("backup.restore"), "{audit}");
    drop((host, own));
}

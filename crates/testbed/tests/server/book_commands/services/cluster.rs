//! docs/cluster.md: two hosts become a cluster.

use super::{Host, blocks_of};
use crate::{
    book_commands::{Mark, repository},
    network_namespace::{OtherHost, is_inside, raise_loopback_inside, rerun_in},
    postgres::own_server::OwnServer,
};
use anteroom_testbed::WAIT_MAX;
use std::{fs, path::Path, time::Instant};
use tokio::process::Command;

/// Where the database is, for the test that runs again in a namespace.
const DATABASE: &str = "ANTEROOM_TEST_DATABASE_OF_THE_DOCUMENTS";

/// The section of both hosts' configuration, for one of them.
fn cluster_section(number: u32) -> String {
    let text = fs::read_to_string(repository().join("docs/cluster.md")).unwrap();
    let section = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    assert!(section.starts_with("[cluster]"), "{section}");
    section.replace("host-1", &format!("host-{number}"))
}

#[tokio::test]
async fn two_hosts_become_a_cluster_as_documented() {
    if !is_inside() {
        let postgres = OwnServer::start(&[]).await;
        let is_root = rustix::process::geteuid().is_root();
        let namespaces: &[&str] = if is_root { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
        let name = "book_commands::services::cluster::two_hosts_become_a_cluster_as_documented";
        rerun_in(namespaces, name, &[(DATABASE, &postgres.directory())]);
        return;
    }
    raise_loopback_inside();
    let other = OtherHost::start();
    let database = std::env::var(DATABASE).unwrap();
    let (keys, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = |number| {
        let key_file = keys.path().join("vault.key");
        let section = cluster_section(number);
        format!(
            "public_url = 'https://anteroom.example'\n[database]\nurl = 'postgresql://anteroom@/postgres?host={database}'\n\
             [vault]\nkey_file = {key_file:?}\n{section}"
        )
    };
    let hosts = [Host::new(&settings(1)).await, Host::new(&settings(2)).await];
    let names =
        format!("{} host-1.internal\n{} host-2.internal\n", OtherHost::SERVER_ADDRESS, OtherHost::CLIENT_ADDRESS);
    for host in &hosts {
        host.change("hosts", |text| text + "\n" + &names);
    }
    let run = async |at: usize, line: &str| {
        let unshare = if at == 0 { Command::new("unshare") } else { other.command(Path::new("unshare")) };
        hosts[at].run(unshare, work.path(), line, "").await
    };
    let [block] = blocks_of("docs/cluster.md", Mark::OnHosts);
    let (steps, last) = block.trim().rsplit_once('\n').unwrap();
    for line in steps.lines() {
        let (command, place) = line.split_once('#').unwrap();
        let at = usize::from(place.trim_start().starts_with("host-2"));
        let (succeeded, printed) = run(at, command.trim()).await;
        assert!(succeeded, "{line}: {printed}\n{}", hosts[at].log());
    }
    let (list, place) = last.split_once('#').unwrap();
    assert_eq!(place.trim(), "on either");
    for at in [0, 1] {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let (succeeded, printed) = run(at, list.trim()).await;
            let lines = |wanted: &str| printed.lines().filter(|line| line.contains(wanted)).count();
            if succeeded && lines("answers") == 2 && lines("host-1") >= 1 && lines("host-2") >= 1 {
                break;
            }
            assert!(Instant::now() < until, "{printed}\n{}", hosts[at].log());
        }
    }
    drop(hosts);
    other.stop();
}

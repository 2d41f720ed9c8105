//! Three hosts of a cluster: each fault of a host, its network or a database × each phase of a session.
//!
//! ```text
//!  fixture    three hosts, with a session in each phase on the first
//!  table      the expected results, and the section of docs/faults.md
//!  rows       the faults, one test each
//!  small_disk a host's disk that can be filled
//!  power_off  a host that loses its power while it is viewed through another one
//!  restarts   servers that are restarted in turn under their viewers
//! ```

mod finish;
mod fixture;
mod power_off;
mod restarts;
mod rows;
mod rows_of_certificates;
mod rows_of_databases;
mod small_disk;
mod table;

use crate::namespace::rerun_in_network;
use fixture::LabFixture;
use table::Row;

/// Runs the test `name` (with its module path) in a network of its own.
fn in_lab(name: &str, test: impl AsyncFnOnce()) {
    if rerun_in_network(name) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test());
    }
}

/// Injects a fault into a lab with a session in each phase, and compares its results with the row. `fault` returns when it has had its effect.
fn run_row(name: &str, row: &Row, fault: impl AsyncFnOnce(&mut LabFixture)) {
    run_prepared(name, row, async |_| (), fault);
}

/// As [`run_row`], with something to prepare before the sessions start.
fn run_prepared(
    name: &str,
    row: &Row,
    prepare: impl AsyncFnOnce(&mut LabFixture),
    fault: impl AsyncFnOnce(&mut LabFixture),
) {
    in_lab(name, async || {
        let mut fixture = LabFixture::start(prepare).await;
        fault(&mut fixture).await;
        fixture.check(row).await;
        fixture.finish().await;
    });
}

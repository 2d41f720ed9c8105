use crate::test_host::{PlainProcess, TestHost, until_removed_with_receipt};
use anteroom_machine::StopReason;

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn fifty_machines_leave_no_files_and_no_processes() {
    let host = TestHost::new();
    let mut settings = host.settings();
    settings.receipts_max = 10;
    let receipts_dir = settings.receipts_dir.clone();
    let server = host.open_with(settings, PlainProcess::sleeping()).await.unwrap();
    let mut files_before = None;
    for _ in 0..50 {
        let (id, mut state) = server.start_running().await;
        server.machines.stop(&id, StopReason::Completed);
        let (_, receipt) = until_removed_with_receipt(&mut state).await;
        assert_eq!(receipt.checks.leftovers, Vec::<String>::new());
        // The first machine opens files that stay open, such as those of the blocking pool.
        files_before.get_or_insert_with(files);
    }
    assert_eq!(server.machines.count(), 0);
    // Tasks of the last machine may keep their files open for a moment.
    while files() > files_before.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read_dir(receipts_dir).unwrap().count(), 10);
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    assert_eq!(children.trim(), "");
    server.end().await;
}

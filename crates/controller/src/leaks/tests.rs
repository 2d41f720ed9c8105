//! Tests of the comparison: the report lists exactly the items without an owner.

use super::*;

fn machine(number: u8) -> MachineId {
    MachineId::from_parts(1, [number; 10])
}

fn process(pid: u32, is_keeper: bool, machine: Option<MachineId>) -> MachineProcess {
    MachineProcess { pid, is_keeper, machine, command_line: "x".into() }
}

fn found(report: &LeakReport, kind: &str) -> (u64, u64, Vec<String>) {
    let row = report.rows.iter().find(|row| row.kind == kind).unwrap();
    (row.exists, row.expected, row.orphans.iter().map(|orphan| orphan.remedy.clone()).collect())
}

#[test]
fn items_without_a_session_are_reported_with_a_remedy() {
    let config = Config { state_dir: "/state".into(), ..Config::default() };
    let [ours, stray] = [machine(1), machine(2)];
    let run = |id: &MachineId| PathBuf::from(format!("/state/run/{id}"));
    let inventory = HostInventory {
        processes: vec![
            process(10, true, Some(ours.clone())),
            process(11, false, Some(ours.clone())),
            process(20, true, Some(stray.clone())),
            process(21, false, Some(stray.clone())),
        ],
        run_dirs: vec![
            (run(&ours), Some(ours.clone())),
            (run(&stray), Some(stray.clone())),
            ("/state/run/odd".into(), None),
        ],
        sockets: vec!["/state/anteroom.sock".into(), run(&ours).join("agent.sock"), run(&stray).join("agent.sock")],
        ..HostInventory::default()
    };
    let expected = ExpectedState { is_server_running: true, machines: [ours].into(), ..ExpectedState::default() };
    let report = find_leaks(inventory, &expected, &config);
    assert_eq!(found(&report, "keepers"), (2, 1, vec!["kill 20".into()]));
    assert_eq!(found(&report, "machine processes"), (2, 1, vec!["kill 21".into()]));
    let stray = run(&stray).display().to_string();
    let removed = vec![format!("rm -r '{stray}'"), "rm -r '/state/run/odd'".into()];
    assert_eq!(found(&report, "run directories"), (3, 1, removed));
    assert_eq!(found(&report, "sockets"), (3, 2, vec![format!("rm '{stray}/agent.sock'")]));
}

#[test]
fn a_template_is_kept_while_its_image_exists_or_it_is_in_use() {
    let template = |name: &str, image: Option<&str>, in_use| TemplateDir {
        path: name.into(),
        image: image.map(str::to_owned),
        image_exists: image == Some("other"),
        is_in_use: in_use,
    };
    let inventory = HostInventory {
        templates: vec![
            template("/t/now", Some("new"), false),
            template("/t/other", Some("other"), false),
            template("/t/used", Some("old"), true),
            template("/t/old", Some("old"), false),
            template("/t/half", None, false),
            template("/t/made", None, true),
        ],
        ..HostInventory::default()
    };
    let expected = ExpectedState { image: Some("new".into()), ..ExpectedState::default() };
    let report = find_leaks(inventory, &expected, &Config::default());
    assert_eq!(found(&report, "templates"), (6, 4, vec!["rm -r '/t/old'".into(), "rm -r '/t/half'".into()]));
}

#[test]
fn unsupervised_sessions_and_too_many_open_files_are_reported() {
    let session = SessionId::from_parts(1, [1; 10]);
    let expected = ExpectedState {
        is_server_running: true,
        active: vec![session.clone()],
        unsupervised: vec![(session.clone(), "no supervisor")],
        supervisors: Some(1),
        ..ExpectedState::default()
    };
    let open = BTreeMap::from([("socket".to_owned(), OPEN_FILES_IDLE + OPEN_FILES_PER_SESSION + 1)]);
    let report =
        find_leaks(HostInventory { open_files: Some(open), ..HostInventory::default() }, &expected, &Config::default());
    assert_eq!(found(&report, "active sessions").0, 1);
    let names: Vec<&str> = report.orphans().map(|orphan| orphan.name.as_str()).collect();
    assert_eq!(names, [session.as_str(), "open files of the server"]);
    // In the second inventory the files are closed: no leak.
    let second = find_leaks(
        HostInventory { open_files: Some(BTreeMap::new()), ..HostInventory::default() },
        &expected,
        &Config::default(),
    );
    let both = confirmed(&report, second);
    assert_eq!(both.orphans().count(), 1);
    assert_eq!(found(&both, "open files"), (0, 0, Vec::new()));
}

#[test]
fn excess_open_files_are_confirmed_although_their_number_changed() {
    let expected = ExpectedState { is_server_running: true, supervisors: Some(0), ..ExpectedState::default() };
    let report = |open: u64| {
        let open = BTreeMap::from([("socket".to_owned(), open)]);
        find_leaks(HostInventory { open_files: Some(open), ..HostInventory::default() }, &expected, &Config::default())
    };
    let report = confirmed(&report(OPEN_FILES_IDLE + 300), report(OPEN_FILES_IDLE + 301));
    let why: Vec<&str> = report.orphans().map(|orphan| orphan.why.as_str()).collect();
    assert_eq!(why, ["at most 160 are expected, 301 more are open: 461 socket"]);
}

#[test]
fn an_item_in_only_one_inventory_is_no_leak() {
    let report = |processes: Vec<MachineProcess>| {
        find_leaks(
            HostInventory { processes, ..HostInventory::default() },
            &ExpectedState::default(),
            &Config::default(),
        )
    };
    let report = confirmed(&report(Vec::new()), report(vec![process(10, true, Some(machine(1)))]));
    assert_eq!(found(&report, "keepers"), (1, 1, Vec::new()));
}

#[test]
fn inventory_finds_run_directories_sockets_and_open_files() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { state_dir: dir.path().join("state"), cache_dir: dir.path().join("cache"), ..Config::default() };
    let id = machine(3);
    let run_dir = config.state_dir.join("run").join(id.as_str());
    std::fs::create_dir_all(&run_dir).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(run_dir.join("a.sock")).unwrap();
    let inventory = inventory::collect_inventory(&config, true).unwrap();
    assert_eq!((inventory.run_dirs, inventory.sockets.len()), (vec![(run_dir, Some(id))], 1));
    assert!(inventory.processes.is_empty() && inventory.templates.is_empty());
    assert!(inventory.open_files.unwrap()["socket"] >= 1);
}

#[test]
fn a_template_that_no_process_uses_is_no_orphan_while_its_image_exists() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { state_dir: dir.path().join("state"), cache_dir: dir.path().join("cache"), ..Config::default() };
    let (template, image) = (config.cache_dir.join("templates/0123"), config.cache_dir.join("images/abc"));
    std::fs::create_dir_all(&template).unwrap();
    std::fs::create_dir_all(&image).unwrap();
    let orphans = || {
        let inventory = inventory::collect_inventory(&config, false).unwrap();
        let report = find_leaks(inventory, &ExpectedState::default(), &config);
        report.orphans().map(|orphan| orphan.why.clone()).collect::<String>()
    };
    assert!(orphans().starts_with("it is unfinished"), "{}", orphans());
    std::fs::write(template.join("template.json"), r#"{"manifest": {"image_hash": "abc"}, "files": {}}"#).unwrap();
    assert_eq!(orphans(), "");
    std::fs::remove_dir(image).unwrap();
    assert!(orphans().starts_with("its image was removed"), "{}", orphans());
}

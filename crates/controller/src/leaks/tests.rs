//! The comparison, by table: what is owned is not named, what is not is.

use super::*;

fn machine(number: u8) -> MachineId {
    MachineId::from_parts(1, [number; 10])
}

fn process(pid: u32, is_keeper: bool, machine: Option<MachineId>) -> Process {
    Process { pid, is_keeper, machine, command: "x".into() }
}

fn found(report: &LeakReport, kind: &str) -> (u64, u64, Vec<String>) {
    let row = report.rows.iter().find(|row| row.kind == kind).unwrap();
    (row.exists, row.expected, row.orphans.iter().map(|orphan| orphan.remedy.clone()).collect())
}

#[test]
fn what_a_session_has_is_owned_and_the_rest_is_named_with_its_remedy() {
    let config = Config { state_dir: "/state".into(), ..Config::default() };
    let [ours, stray] = [machine(1), machine(2)];
    let run = |id: &MachineId| PathBuf::from(format!("/state/run/{id}"));
    let census = Census {
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
        ..Census::default()
    };
    let known = Known { by_server: true, machines: [ours].into(), ..Known::default() };
    let report = compare(census, &known, &config);
    assert_eq!(found(&report, "keepers"), (2, 1, vec!["kill 20".into()]));
    assert_eq!(found(&report, "machine processes"), (2, 1, vec!["kill 21".into()]));
    let stray = run(&stray).display().to_string();
    let removed = vec![format!("rm -r '{stray}'"), "rm -r '/state/run/odd'".into()];
    assert_eq!(found(&report, "run directories"), (3, 1, removed));
    assert_eq!(found(&report, "sockets"), (3, 2, vec![format!("rm '{stray}/agent.sock'")]));
}

#[test]
fn a_template_is_kept_for_the_present_image_or_whoever_uses_it() {
    let template = |name: &str, image: Option<&str>, in_use| Template {
        path: name.into(),
        image: image.map(str::to_owned),
        in_use,
    };
    let census = Census {
        templates: vec![
            template("/t/now", Some("new"), false),
            template("/t/used", Some("old"), true),
            template("/t/old", Some("old"), false),
            template("/t/half", None, false),
            template("/t/made", None, true),
        ],
        ..Census::default()
    };
    let known = Known { image: Some("new".into()), ..Known::default() };
    let report = compare(census, &known, &Config::default());
    assert_eq!(found(&report, "templates"), (5, 3, vec!["rm -r '/t/old'".into(), "rm -r '/t/half'".into()]));
}

#[test]
fn sessions_without_an_owner_and_more_open_files_than_they_explain_are_named() {
    let session = SessionId::from_parts(1, [1; 10]);
    let known = Known {
        by_server: true,
        active: vec![session.clone()],
        ownerless: vec![(session.clone(), "nobody")],
        owners: Some(1),
        ..Known::default()
    };
    let open = BTreeMap::from([("socket".to_owned(), OPEN_FILES_IDLE + OPEN_FILES_A_SESSION + 1)]);
    let report = compare(Census { open_files: Some(open), ..Census::default() }, &known, &Config::default());
    assert_eq!(found(&report, "active sessions").0, 1);
    let names: Vec<&str> = report.orphans().map(|orphan| orphan.name.as_str()).collect();
    assert_eq!(names, [session.as_str(), "open files of the server"]);
    // At the second look the files are closed: nothing was leaking.
    let calm = compare(Census { open_files: Some(BTreeMap::new()), ..Census::default() }, &known, &Config::default());
    let both = in_both(&report, calm);
    assert_eq!(both.orphans().count(), 1);
    assert_eq!(found(&both, "open files"), (0, 0, Vec::new()));
}

#[test]
fn open_files_that_leak_are_named_though_their_number_changes_between_the_looks() {
    let known = Known { by_server: true, owners: Some(0), ..Known::default() };
    let looked = |open: u64| {
        let open = BTreeMap::from([("socket".to_owned(), open)]);
        compare(Census { open_files: Some(open), ..Census::default() }, &known, &Config::default())
    };
    let report = in_both(&looked(OPEN_FILES_IDLE + 300), looked(OPEN_FILES_IDLE + 301));
    let why: Vec<&str> = report.orphans().map(|orphan| orphan.why.as_str()).collect();
    assert_eq!(why, ["its sessions explain 160; it has 301 more, in all 461 socket"]);
}

#[test]
fn what_was_only_being_made_at_one_look_is_not_missing_from_what_should_be() {
    let looked = |processes: Vec<Process>| {
        compare(Census { processes, ..Census::default() }, &Known::default(), &Config::default())
    };
    let report = in_both(&looked(Vec::new()), looked(vec![process(10, true, Some(machine(1)))]));
    assert_eq!(found(&report, "keepers"), (1, 1, Vec::new()));
}

#[test]
fn a_keeper_is_found_by_its_arguments_and_a_machine_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        Config { state_dir: dir.path().join("state"), cache_dir: dir.path().join("cache"), ..Config::default() };
    let id = machine(3);
    let run_dir = config.state_dir.join("run").join(id.as_str());
    std::fs::create_dir_all(&run_dir).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(run_dir.join("a.sock")).unwrap();
    let census = look::look(&config, true).unwrap();
    assert_eq!((census.run_dirs, census.sockets.len()), (vec![(run_dir, Some(id))], 1));
    assert!(census.processes.is_empty() && census.templates.is_empty());
    assert!(census.open_files.unwrap()["socket"] >= 1);
}

use super::*;

fn config(memory_free_mib_min: u64, memory_per_machine_mib: u64, disk_free_mib_min: u64) -> Config {
    let mut config = Config { state_dir: "/".into(), cache_dir: "/".into(), ..Config::default() };
    config.machines.memory_free_mib_min = memory_free_mib_min;
    config.machines.memory_per_machine_mib = memory_per_machine_mib;
    config.machines.disk_free_mib_min = disk_free_mib_min;
    config
}

const HOST: HostMemory = HostMemory { total_mib: 4_096, available_mib: 4_000 };

fn counts(pending: u64, running: u64) -> MachineCounts {
    MachineCounts { pending, running }
}

#[test]
fn each_machine_counts_with_all_the_memory_that_it_may_take() {
    // 4096 MiB - 256 MiB reserved = 3840 MiB = 2 machines of exactly 1920 MiB.
    let config = config(256, 256, 0);
    let sentence = assess_memory(&config, HOST, 1_920, counts(1, 1)).unwrap();
    assert_eq!(
        sentence,
        "2 machine(s) may take 3840 MiB (1920 MiB each) of 3840 MiB (the host's 4096 MiB without the 256 MiB of machines.memory_free_mib_min, \
         times machines.memory_overcommit_percent 100 %); 4000 MiB are available now"
    );
    for (machine_mib_max, counted) in [(1_921, counts(1, 1)), (1_920, counts(1, 2)), (1_920, counts(3, 0))] {
        let shortage = assess_memory(&config, HOST, machine_mib_max, counted).unwrap_err();
        assert!(matches!(shortage, ResourceShortage::MachineMemory(_)), "{shortage}");
        assert_eq!(shortage.to_problem(), anteroom_wire::Problem::MemoryLow);
        let text = shortage.to_string();
        for number in [format!("{machine_mib_max} MiB each"), "of 3840 MiB".to_owned(), "4096 MiB".to_owned()] {
            assert!(text.contains(&number), "{number}: {text}");
        }
    }
}

#[test]
fn more_than_the_hosts_memory_is_committed_only_if_an_operator_sets_it() {
    let mut config = config(256, 0, 0);
    assert!(assess_memory(&config, HOST, 1_920, counts(4, 0)).is_err());
    config.machines.memory_overcommit_percent = 200;
    assert!(assess_memory(&config, HOST, 1_920, counts(4, 0)).is_ok());
    assert!(assess_memory(&config, HOST, 1_920, counts(5, 0)).is_err());
}

#[test]
fn memory_that_other_programs_take_is_missing_for_pending_machines() {
    let config = config(256, 256, 0);
    let with_available = |available_mib| HostMemory { available_mib, ..HOST };
    assert!(assess_memory(&config, with_available(768), 500, counts(2, 1)).is_ok());
    let shortage = assess_memory(&config, with_available(767), 500, counts(2, 1)).unwrap_err();
    assert!(matches!(shortage, ResourceShortage::Memory { expected_mib: 512, .. }), "{shortage}");
}

#[test]
fn an_admitted_session_counts_until_its_machine_runs() {
    let ended = State::Stopping { reason: anteroom_machine::StopReason::Completed };
    let count = |permits, states: &[State]| MachineCounts::count(permits, states.iter());
    assert_eq!(count(3, &[]), counts(3, 0), "none of them has requested a machine yet");
    assert_eq!(count(3, &[State::Requested, State::Cloning]), counts(3, 0), "two have requested machines");
    assert_eq!(count(3, &[State::Cloning, ended.clone()]), counts(2, 1));
    assert_eq!(count(0, &[State::Requested, ended]), counts(1, 1), "a machine without a session uses memory, too");
    assert_eq!(counts(1, 1).with_another(), counts(2, 1));
}

#[test]
fn a_minimum_above_the_free_amount_is_a_shortage_and_zero_disables_the_check() {
    assert!(matches!(check_disk(&config(0, 0, 1 << 40)), Err(ResourceShortage::Disk { name: "state", .. })));
    assert!(check_disk(&config(0, 0, 0)).is_ok());
    let reserving_all = config(HOST.total_mib + 1, 0, 0);
    assert!(assess_memory(&reserving_all, HOST, 0, counts(0, 0)).is_err(), "available memory is below the minimum");
    assert!(assess_memory(&config(0, 1 << 40, 0), HOST, 1 << 40, counts(100, 0)).is_ok(), "0 disables the check");
}

#[test]
fn the_file_system_of_the_cache_directory_is_checked_even_if_the_directory_does_not_exist_yet() {
    // proc(5) has no free space.
    let config = Config { cache_dir: "/proc/no-such-directory/cache".into(), ..config(0, 0, 1) };
    let shortage = check_disk(&config).unwrap_err();
    assert!(matches!(shortage, ResourceShortage::Disk { name: "cache", free_mib: 0, .. }), "{shortage:?}");
    assert!(
        shortage.to_string().contains("0 MiB are free below the cache directory /proc/no-such-directory/cache"),
        "{shortage}"
    );
}

//! What an ordinary program of a machine finds closed.

use super::{open_shell, run_in_shell, start_server};

/// What a shell of the machine's user prints for this script; lines of the script's own echo are left out.
async fn run_script(script: &str) -> String {
    let server = start_server("").await;
    let id = open_shell(&server).await;
    let command = format!("clear; ({script}) 2>&1; echo DO\"\"NE");
    let screen = run_in_shell(&server, &id, &command, "DONE").await;
    server.stop_and_check_leaks().await.unwrap();
    screen
}

#[tokio::test]
async fn qemu_s30_kernel_settings_close_what_no_program_needs() {
    let expected = [
        ("dev/tty/legacy_tiocsti", "0"),
        ("fs/protected_fifos", "2"),
        ("fs/protected_hardlinks", "1"),
        ("fs/protected_regular", "2"),
        ("fs/protected_symlinks", "1"),
        ("fs/suid_dumpable", "0"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/io_uring_disabled", "2"),
        ("kernel/kexec_load_disabled", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/modules_disabled", "1"),
        ("kernel/perf_event_paranoid", "3"),
        ("kernel/sysrq", "0"),
        ("kernel/unprivileged_bpf_disabled", "1"),
        ("kernel/yama/ptrace_scope", "2"),
        ("user/max_user_namespaces", "0"),
    ];
    let names = expected.map(|(name, _)| name).join(" ");
    let screen =
        run_script(&format!("cd /proc/sys; for name in {names}; do echo \"[$name=$(cat $name)]\"; done")).await;
    for (name, value) in expected {
        assert!(screen.contains(&format!("[{name}={value}]")), "{name} = {value} in:\n{screen}");
    }
}

#[tokio::test]
async fn qemu_s30_user_sees_no_process_of_others_and_gets_no_namespace_and_no_kernel_address() {
    let screen = run_script(
        "echo \"[init $(ls /proc/1 | wc -l)]\"; unshare --user true && echo \"[namespace\"\" made]\"; dmesg >/dev/null && echo \"[log\"\" read]\"; \
         echo \"[addresses $(grep -vc '^0000000000000000 ' /proc/kallsyms)]\"; stat -c '[socket %a %U %G]' /run/anteroom/local.sock; \
         echo \"[vsock $(grep -c vsock /proc/modules)]\"",
    )
    .await;
    assert!(screen.contains("[init 0]"), "{screen}");
    assert!(!screen.contains("[namespace made]") && !screen.contains("[log read]"), "{screen}");
    assert!(screen.contains("[addresses 0]"), "{screen}");
    assert!(screen.contains("[socket 660 root user]"), "{screen}");
    assert!(screen.contains("[vsock 0]"), "{screen}");
}

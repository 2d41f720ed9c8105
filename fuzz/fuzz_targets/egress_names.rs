//! Names and targets of `CONNECT` requests from machines. The provider allows no host, so no request may succeed.
#![no_main]

use anteroom_egress::{
    EgressGate, EgressOutcome, EgressSettings, HostName, HostOverrides, MachineEgressGate, is_public,
};
use libfuzzer_sys::fuzz_target;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const PROVIDER: &str = "
id = 'none'
name = 'None'
cli = 'none'
argv = ['none']
lanes = ['link']
next_action = 'None.'
policy = 'store'
egress = []
credential = { paths = ['x'], required = ['/x'] }
";
const REPORT_BYTES_MAX: usize = 1024;

fn is_printable(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

fn check_name(text: &str) {
    match HostName::parse(text) {
        Ok(name) => {
            let name = name.as_str();
            assert_eq!(HostName::parse(name).expect("a parsed name is a name").as_str(), name);
            assert_eq!(name, name.to_ascii_lowercase());
            assert!(name.len() <= 253 && name.parse::<IpAddr>().is_err(), "{name:?}");
            // inet_aton(3), which resolvers use, reads numbers in one to four parts.
            let last = name.rsplit('.').next().unwrap_or_default();
            assert!(!last.starts_with(|c: char| c.is_ascii_digit()), "{name:?}");
        }
        Err(error) => assert!(is_printable(&error.detail) && error.detail.len() <= REPORT_BYTES_MAX, "{error:?}"),
    }
}

fn check_address(data: &[u8]) {
    let Some(&bytes) = data.first_chunk::<4>() else { return };
    let v4 = Ipv4Addr::from(bytes);
    let (a, b, c, d) = (u16::from(bytes[0]), u16::from(bytes[1]), u16::from(bytes[2]), u16::from(bytes[3]));
    let (high, low) = (a << 8 | b, c << 8 | d);
    // IPv6 addresses that lead to an IPv4 address are never public: mapped, compatible, NAT64, 6to4.
    for v6 in [
        [0, 0, 0, 0, 0, 0xffff, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],
        [0x2002, high, low, 0, 0, 0, 0, 1],
    ] {
        assert!(!is_public(IpAddr::from(v6)), "{v4}: {v6:x?}");
    }
    if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.is_multicast() {
        assert!(!is_public(v4.into()), "{v4}");
    }
}

fn check_connect(target: &str) {
    let Ok(request) = http::Request::builder().method("CONNECT").uri(target).body(()) else { return };
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reports);
    let gate = MachineEgressGate::new(
        Arc::new(EgressGate::new(EgressSettings::default(), HostOverrides::default())),
        Arc::new(toml::from_str(PROVIDER).expect("the descriptor is valid")),
        TaskTracker::new(),
        CancellationToken::new(),
        move |decision| sink.lock().expect("not poisoned").push(decision),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
    let status = runtime.block_on(gate.serve_connect(request)).status().as_u16();
    assert!(status == 400 || status == 403, "{target:?}: {status}");
    for decision in reports.lock().expect("not poisoned").iter() {
        assert!(is_printable(&decision.host) && decision.host.len() <= 253, "{:?}", decision.host);
        assert!(!matches!(decision.outcome, EgressOutcome::Allowed { .. }), "{decision:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    check_address(data);
    let text = String::from_utf8_lossy(data);
    check_name(&text);
    check_connect(&text);
});

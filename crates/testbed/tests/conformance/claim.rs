//! The claim of a machine whose tool prints a line and waits.

use anteroom_wire::{
    Base64, MachineId, Secret, SessionId,
    agent::{CaptureLimits, Claim, ClaimedBy, Geometry},
    provider::Provider,
};

/// What the tool prints.
pub(crate) const TOOL_OUTPUT: &str = "the tool waits";

const PROVIDER: &str = r#"
id = "waits"
name = "Waits"
cli = "codex"
argv = ["sh", "-c", "echo the tool waits; exec sleep 1000000"]
lanes = ["terminal"]
next_action = "Wait."
policy = "store"
egress = []
credential = { paths = [".waits/credential.json"], required = ["/token"] }
"#;

/// A claim of `machine`.
pub(crate) fn claim(machine: &MachineId) -> Claim {
    let provider: Provider = toml::from_str(PROVIDER).unwrap();
    Claim {
        entropy: Base64::new(vec![7; 64]),
        now_unix_ns: 1_900_000_000_000_000_000,
        guest_machine_id: "0123456789abcdef0123456789abcdef".into(),
        claimed_by: ClaimedBy { session: SessionId::from_parts(1, [1; 10]), machine: machine.clone(), generation: 1 },
        geometry: Geometry { width: 1024, height: 768 },
        provider,
        agent_token: Secret::new("a random token".into()),
        capture_limits: CaptureLimits {
            stable_ms: 1_000,
            file_bytes_max: 100_000,
            retry_ms_min: 1_000,
            retry_ms_max: 10_000,
            status_ms_max: 60_000,
        },
        extra_ca_pem: String::new(),
        use_credential: None,
    }
}

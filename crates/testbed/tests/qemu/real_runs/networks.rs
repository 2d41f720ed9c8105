//! Networks without a way out.

use super::*;
use anteroom_wire::diagnosis::Verdict;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A shell script that asks the machine's proxy for a host of its own, as any tool does, and then ends or waits.
fn own_request(end: &str) -> Vec<String> {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/3128; \
         printf 'CONNECT api.example.test:443 HTTP/1.1\\r\\nHost: api.example.test:443\\r\\n\\r\\n' >&3; read -r answer <&3; \
         echo \"error: cannot connect: $answer\" >&2; {end}"
    );
    ["bash", "-c", &script].map(str::to_owned).to_vec()
}

fn add_own_tools(providers: &mut BTreeMap<String, Provider>) {
    for (id, end) in [("own_ends", "exit 1"), ("own_waits", "sleep 600")] {
        add_copy(providers, "own", id, |provider| {
            provider.argv = own_request(end);
            provider.egress.push(EgressRule { host: TOOL_HOST.to_owned(), ports: vec![443], reason: String::new() });
        });
    }
}

/// A proxy that answers every request with this status.
async fn start_proxy(status: &'static str, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), stop.clone());
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        }
    }));
    address
}

#[tokio::test]
async fn qemu_real_run_without_a_network() {
    let world = World::start(Hosts::ByName, "", add_own_tools).await;
    let runs = [("demo", "the demo"), ("own_ends", "a tool that ends"), ("own_waits", "a tool that waits")];
    for (number, (provider, what)) in (1..=rounds()).zip(runs) {
        let (api, id) = world.sign_in(provider, None).await;
        api.wait_entry(&id, TimelineKind::EgressDenied).await.unwrap();
        let run = Run { cause: "no_network", number, what, verdict: Verdict::EgressUnreachable };
        run.check(&world, provider, &id).await;
    }
    world.close().await;
}

#[tokio::test]
async fn qemu_real_run_with_a_proxy_that_refuses() {
    let stop = CancellationToken::new();
    let runs = [
        ("407 Proxy Authentication Required", "codex", "407 to Codex"),
        ("403 Forbidden", "demo", "403 to the demo"),
        ("403 Forbidden", "own_ends", "403 to a tool of one's own"),
    ];
    for (number, (status, provider, what)) in (1..=rounds()).zip(runs) {
        let settings = format!("[egress.proxy]\nurl = \"http://{}\"\n", start_proxy(status, &stop).await);
        let world = World::start(Hosts::ByName, &settings, add_own_tools).await;
        let (api, id) = world.sign_in(provider, None).await;
        api.wait_entry(&id, TimelineKind::CliExited).await.unwrap();
        let run = Run { cause: "proxy_refuses", number, what, verdict: Verdict::EgressProxy };
        run.check(&world, provider, &id).await;
        world.close().await;
    }
    stop.cancel();
}

//! Plain HTTP where TLS is spoken: a redirect to the same path over https, and nothing else.

use bytes::BytesMut;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections that are redirected at once; further ones are closed without an answer.
pub(crate) const REDIRECTS_MAX: usize = 64;
/// Time for the request and the answer.
pub(crate) const REDIRECT_MS_MAX: u64 = 2_000;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 4 * 1_024;
const HEADERS_MAX: usize = 64;

/// Redirects every connection to this listener, until the server stops.
pub(crate) async fn serve_redirects(
    listener: TcpListener,
    base_url: Arc<str>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(REDIRECTS_MAX));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((mut stream, _)) = accepted else {
            tokio::time::sleep(super::ACCEPT_RETRY).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let base_url = Arc::clone(&base_url);
        tasks.spawn(async move {
            redirect(&mut stream, &base_url).await;
            drop(place);
        });
    }
}

/// Answers one request of plain HTTP, and closes the connection.
pub(super) async fn redirect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), base_url: &str) {
    let answered = async {
        let head = read_head(stream).await?;
        stream.write_all(answer(&head, base_url).as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread data would reset the connection before the client has read the answer.
        let mut dropped = [0; 1_024];
        while stream.read(&mut dropped).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that left or is too slow gets no answer.
    let _ = timeout(Duration::from_millis(REDIRECT_MS_MAX), answered).await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut head = BytesMut::new();
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// A redirect for what has no body; anything else was already sent without TLS, and is refused.
fn answer(head: &[u8], base_url: &str) -> String {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let is_whole = request.parse(head).is_ok_and(|status| status.is_complete());
    let path = request.path.filter(|path| path.starts_with('/') && !path.starts_with("//") && path.is_ascii());
    let (status, location, body) = match (is_whole, request.method, path) {
        (true, Some("GET" | "HEAD"), Some(path)) => {
            ("308 Permanent Redirect", format!("location: {base_url}{path}\r\n"), "")
        }
        (true, _, _) | (false, _, _) => ("400 Bad Request", String::new(), "This server speaks https only.\n"),
    };
    format!(
        "HTTP/1.1 {status}\r\n{location}content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_without_a_body_are_redirected_and_only_to_this_server() {
        let location = |head: &str| {
            let answer = answer(head.as_bytes(), "https://a.example");
            answer.lines().find_map(|line| line.strip_prefix("location: ").map(str::to_owned))
        };
        let wanted = |path: &str| Some(format!("https://a.example{path}"));
        assert_eq!(location("GET /admin?x=1 HTTP/1.1\r\nHost: b.example\r\n\r\n"), wanted("/admin?x=1"));
        assert_eq!(location("HEAD / HTTP/1.0\r\n\r\n"), wanted("/"));
        for refused in [
            "POST /api/sessions HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET //b.example/ HTTP/1.1\r\n\r\n",
            "GET http://b.example/ HTTP/1.1\r\n\r\n",
            "GET .b.example HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a",
            "\u{16}\u{3}\u{1}",
            "",
        ] {
            assert_eq!(location(refused), None, "{refused:?}");
        }
    }
}

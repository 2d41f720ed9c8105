//! An answer that arrived through the proxy: of this server, or of the proxy itself.

use super::{StepFailure, connection::WayError};
use anteroom_wire::{Problem, ProblemBody, Secret};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

/// Bytes of an answer that are read: pages are smaller.
const ANSWER_BYTES_MAX: usize = 1024 * 1_024;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where a redirect leads: the host name, or the path on the same host.
    pub(super) redirect_host: Option<String>,
    /// The cookie that the answer sets, as a request sends it.
    pub(super) cookie: Option<Secret>,
    /// The error, if the answer is this server's.
    pub(super) problem: Option<ProblemBody>,
}

impl Answer {
    /// Reads the whole answer; of an accepted WebSocket only the head.
    pub(super) async fn read(response: Response<Incoming>) -> Result<Self, WayError> {
        let (head, body) = response.into_parts();
        let mut problem = None;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| WayError::Http(error.to_string()))?.to_bytes();
            problem = serde_json::from_slice(&body).ok();
        }
        Ok(Self {
            status: head.status,
            redirect_host: redirect_host(&head.headers),
            cookie: cookie(&head.headers),
            problem,
        })
    }

    /// Why this is not the expected answer.
    pub(super) fn failure(self) -> StepFailure {
        if let Some(body) = self.problem {
            let detail = body.detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            let remedy = match body.code.as_str() {
                "cross_origin" => {
                    "Set public_url to the address that browsers show, and let the proxy pass on the Host header \
                     (nginx: proxy_set_header Host $http_host)."
                }
                _ => body.remedy.as_str(),
            };
            return StepFailure {
                detail: format!("{}{detail}", body.sentence),
                remedy: remedy.to_owned(),
                cause: body.code,
            };
        }
        let status = self.status;
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return StepFailure::of(Problem::ProxyBodyLimit, "It answers 413 by itself.");
        }
        StepFailure {
            cause: "unexpected_answer".to_owned(),
            detail: format!("The answer is {status}, and not by this server."),
            remedy: "Find out what answers at public_url: the proxy's log names the request and the upstream."
                .to_owned(),
        }
    }
}

fn redirect_host(headers: &HeaderMap) -> Option<String> {
    let location: http::Uri = headers.get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    Some(location.host().map_or_else(|| location.path().to_owned(), str::to_owned))
}

fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let set = headers.get(header::SET_COOKIE)?.to_str().ok()?;
    set.split(';').next().map(|pair| Secret::new(pair.trim().to_owned()))
}

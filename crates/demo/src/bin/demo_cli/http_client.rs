//! Sends a request over plain HTTP/1.1, through the proxy in the environment variables if there is one.

use bytes::{Bytes, BytesMut};
use reqwest::{Client, Error, StatusCode, Url, header, redirect::Policy};
use std::time::Duration;

/// How long one request may take (an emulated machine is slow).
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// The largest response body.
const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// A response.
pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0} is not an address that begins with http://")]
    InvalidUrl(String),
    #[error("{at} cannot be reached")]
    Connect { at: String, source: Error },
    #[error("{at} does not answer in HTTP")]
    Exchange { at: String, source: Error },
    #[error("{at} answered with more than {RESPONSE_BYTES_MAX} bytes")]
    Body { at: String },
    #[error("{at} did not answer within {} seconds", REQUEST_LIMIT.as_secs())]
    Timeout { at: String },
}

/// The method of a request, with what belongs to it.
pub(crate) enum HttpRequestMethod<'a> {
    /// `GET`, with this bearer token.
    Get { bearer: Option<&'a str> },
    /// `POST` of a form.
    PostForm(String),
}

/// Sends one request to the URL `address` and reads the whole response.
pub(crate) async fn request(address: &str, method: HttpRequestMethod<'_>) -> Result<HttpResponse, HttpError> {
    let url = Url::parse(address).ok().filter(|url| url.scheme() == "http");
    let url = url.ok_or_else(|| HttpError::InvalidUrl(address.to_owned()))?;
    let at = url.authority().to_owned();
    let failed = |source: Error| {
        let (at, source) = (at.clone(), source.without_url());
        if source.is_timeout() {
            HttpError::Timeout { at }
        } else if source.is_connect() {
            HttpError::Connect { at, source }
        } else {
            HttpError::Exchange { at, source }
        }
    };
    let client = Client::builder()
        .redirect(Policy::none())
        .timeout(REQUEST_LIMIT)
        .user_agent(concat!("anteroom-demo/", env!("CARGO_PKG_VERSION")));
    let client = client.build().map_err(failed)?;
    let request = match method {
        HttpRequestMethod::Get { bearer: None } => client.get(url),
        HttpRequestMethod::Get { bearer: Some(token) } => client.get(url).bearer_auth(token),
        HttpRequestMethod::PostForm(form) => {
            client.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
        }
    };
    let mut response = request.header(header::ACCEPT, "application/json").send().await.map_err(failed)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > RESPONSE_BYTES_MAX {
            return Err(HttpError::Body { at });
        }
    }
    Ok(HttpResponse { status: response.status(), body: body.freeze() })
}

//! The HTTP client of an ACME directory: https only, and bounded.

use crate::https_client::{CaFile, ClientSetupError, HttpsClient, RequestError, https_client};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::{future::Future, path::Path, pin::Pin, time::Duration};

/// Time for a request and its answer, milliseconds.
const REQUEST_MS_MAX: u64 = 30_000;
/// The longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1_024;

/// The client.
pub(super) struct DirectoryClient(HttpsClient);

impl DirectoryClient {
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, ClientSetupError> {
        https_client(true, CaFile { section: "tls.acme", path: ca_file }).map(Self)
    }
}

impl HttpClient for DirectoryClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let answered = tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), send(client, request)).await;
            answered.unwrap_or_else(|_| Err(Error::Other(format!("no answer in {REQUEST_MS_MAX} ms").into())))
        })
    }
}

async fn send(client: HttpsClient, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
    if request.uri().scheme_str() != Some("https") {
        return Err(Error::Other(format!("the directory names {}, which is not https", request.uri()).into()));
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = client.request(Request::from_parts(head, Full::new(body))).await;
    let (head, body) = answer.map_err(|error| Error::Other(Box::new(RequestError(error))))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::Other)?.to_bytes();
    Ok(BytesResponse::from(Response::from_parts(head, Full::new(body))))
}

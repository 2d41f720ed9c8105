//! Requests for which the server works for minutes, and answers that are too large for the memory.

use super::{
    ApiClient, ClientError, EVENT_SILENCE_S_MAX, api_error, collect, invalid, no_response, parse_json, request,
    root_cause,
};
use http::Method;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// Time until such a response begins, seconds.
const SLOW_RESPONSE_S_MAX: u64 = 900;

impl ApiClient {
    /// As [`ApiClient::call`] without a body, for what takes the server long.
    ///
    /// # Errors
    /// As [`ApiClient::call`].
    pub(crate) async fn call_slow<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let bytes = self.exchange(request(method, path, None::<&()>)?, SLOW_RESPONSE_S_MAX).await?;
        parse_json(&bytes)
    }

    /// Passes the response's bytes to `write` as they come.
    ///
    /// # Errors
    /// As [`ApiClient::call`], if the response is not complete or falls silent, and those of `write`.
    pub(crate) async fn download(
        &self,
        method: Method,
        path: &str,
        mut write: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begun = timeout(Duration::from_secs(SLOW_RESPONSE_S_MAX), self.send(request(method, path, None::<&()>)?));
        let mut exchange = begun.await.map_err(|_| no_response(SLOW_RESPONSE_S_MAX))??;
        let status = exchange.response.status();
        if !status.is_success() {
            return Err(api_error(status, &collect(exchange).await?).into());
        }
        let silent = || invalid(&format_args!("no byte within {EVENT_SILENCE_S_MAX} s"));
        loop {
            let next = timeout(Duration::from_secs(EVENT_SILENCE_S_MAX), exchange.response.body_mut().frame());
            let Some(frame) = next.await.map_err(|_| silent())? else { return Ok(()) };
            let frame = frame.map_err(|error| invalid(&root_cause(&error)))?;
            write(frame.data_ref().map_or(&[][..], |data| data))?;
        }
    }
}

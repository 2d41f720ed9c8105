//! Answers.

use crate::{
    body::{Fault, FirecrackerVersion, InstanceInfo},
    error::Error,
    operation::Operation,
    version::Version,
};
use serde::de::DeserializeOwned;

/// The most header fields of an answer; Firecracker sends up to five.
const HEADERS_MAX: usize = 32;
/// How much of an answer is quoted in an error, characters.
const QUOTED_CHARS_MAX: usize = 600;
/// "100 Continue" precedes an answer.
const CONTINUE: u16 = 100;

/// An answer with status 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    operation: Operation,
    body: Vec<u8>,
}

/// The first line and the header fields of an answer.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) head_bytes: usize,
    pub(crate) body_bytes: usize,
}

impl Head {
    /// Parses a head; `None`: it is not complete.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, httparse::Error> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = response.parse(bytes)? else { return Ok(None) };
        let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let body_bytes = match length {
            None => 0,
            Some(header) => std::str::from_utf8(header.value)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or(httparse::Error::HeaderValue)?,
        };
        Ok(Some(Self { status: response.code.unwrap_or_default(), head_bytes, body_bytes }))
    }

    pub(crate) fn is_continue(&self) -> bool {
        self.status == CONTINUE
    }
}

fn quoted(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(QUOTED_CHARS_MAX).collect()
}

impl Response {
    pub(crate) fn new(operation: Operation, status: u16, body: Vec<u8>) -> Result<Self, Error> {
        if (200..300).contains(&status) {
            return Ok(Self { operation, body });
        }
        // An error of Firecracker's HTTP server, such as an unknown path, has its text in another field.
        let fault_message = match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => fault.fault_message.chars().take(QUOTED_CHARS_MAX).collect(),
            Err(_) => quoted(&body),
        };
        Err(Error::Fault { operation, status, fault_message })
    }

    /// The operation that is answered.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The answer to `GET /`.
    ///
    /// # Errors
    /// The body is another one.
    pub fn instance_info(&self) -> Result<InstanceInfo, Error> {
        self.json()
    }

    /// The answer to `GET /version`, if the version is supported.
    pub(crate) fn supported_version(&self) -> Result<Version, Error> {
        let version: Version = self.json::<FirecrackerVersion>()?.firecracker_version.parse()?;
        match version {
            version if version.is_too_old() => Err(Error::TooOld(version)),
            version if version.is_too_new() => Err(Error::TooNew(version)),
            version => Ok(version),
        }
    }

    fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::NotJson {
            operation: self.operation,
            body: quoted(&self.body),
            source,
        })
    }
}

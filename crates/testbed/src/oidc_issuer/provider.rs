//! The state of a provider: its people, its client, the sign-ins and a record of the requests.

use super::{fault::OidcFault, signing_keys::SigningKeys};
use crate::code_flow::{AuthorizationRequest, IssuerState};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) type SharedProvider = Arc<Mutex<Provider>>;

/// An account at the provider.
#[derive(Debug, Clone)]
pub struct Person {
    /// The subject, which never changes.
    pub subject: String,
    /// The displayed name.
    pub name: String,
    /// More claims of the ID token: the groups.
    pub claims: Value,
}

impl Person {
    /// A person with these groups in the claim `groups`.
    pub fn in_groups(subject: &str, name: &str, groups: &[&str]) -> Self {
        Self::with_claims(subject, name, json!({ "groups": groups }))
    }

    /// A person with these claims.
    pub fn with_claims(subject: &str, name: &str, claims: Value) -> Self {
        Self { subject: subject.to_owned(), name: name.to_owned(), claims }
    }
}

/// The registered client: the server.
#[derive(Debug)]
pub(super) struct RegisteredClient {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) redirect_uris: BTreeSet<String>,
    pub(super) post_logout_redirect_uris: BTreeSet<String>,
}

/// The part of the redirect URI that contains the response (OAuth 2.0 Multiple Response Type Encoding Practices).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseMode {
    Query,
    Fragment,
}

/// An authorization request while the person decides.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) authorization: AuthorizationRequest,
    pub(super) response_mode: ResponseMode,
    pub(super) nonce: Option<String>,
}

/// A person who has authenticated at the provider.
#[derive(Debug, Clone)]
pub(super) struct Authentication {
    pub(super) subject: String,
    /// Unix time, seconds.
    pub(super) auth_time_s: u64,
}

/// What belongs to a code.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) authentication: Authentication,
    pub(super) nonce: Option<String>,
    /// Unix time, seconds.
    pub(super) issued_at_s: u64,
}

#[derive(Debug)]
pub(super) struct Provider {
    /// The issuer identifier, which is also the base of the endpoints.
    pub(super) url: String,
    pub(super) client: RegisteredClient,
    pub(super) people: Vec<Person>,
    pub(super) keys: SigningKeys,
    pub(super) faults: BTreeSet<OidcFault>,
    /// The codes, the tokens and the record of the requests.
    pub(super) issuer: IssuerState,
    pub(super) pending: BTreeMap<String, PendingRequest>,
    pub(super) grants: BTreeMap<String, Grant>,
    /// Access token → subject.
    pub(super) token_subjects: BTreeMap<String, String>,
    /// The cookie of a browser → the authentication in it.
    pub(super) browsers: BTreeMap<String, Authentication>,
    /// The bytes of endless bodies that were sent.
    pub(super) endless_bytes: u64,
}

impl Provider {
    pub(super) fn has(&self, fault: OidcFault) -> bool {
        self.faults.contains(&fault)
    }

    pub(super) fn find_person(&self, subject: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.subject == subject)
    }
}

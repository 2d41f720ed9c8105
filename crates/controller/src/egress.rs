//! The egress gate as configured: its limits, its proxy, the special ranges and certificate authorities of this network.

mod network_check;

pub use network_check::{HostFailure, HostReport, HostStatus, NetworkCheckError, NetworkReport, check_network};

use crate::{
    config::Config,
    private_file::{PrivateFile, Readers, read_private_file},
};
use anteroom_egress::{
    AllowedRanges, EgressGate, EgressSettings, HostOverrides, InvalidProxy, ProbeTls, ProxyCredentials, UpstreamProxy,
};
use anteroom_wire::Secret;
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The name of user and password as a systemd credential.
const PROXY_CREDENTIAL: &str = "egress_proxy_credentials";
const CREDENTIALS_BYTES_MAX: u64 = 4 * 1_024;
/// All certificates of `egress.extra_ca_files` together, as PEM: they are part of the claim of each machine.
pub const EXTRA_CA_BYTES_MAX: usize = 256 * 1_024;
/// Characters in a line of PEM (RFC 7468).
const PEM_LINE_CHARS: usize = 64;
/// The variables that name a proxy, in the order in which they count.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Why the gate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressSetupError {
    /// Invalid overrides or ranges, which the check of the configuration reports as well.
    #[error("{0}")]
    Settings(String),
    /// The proxy.
    #[error("{origin} {source}")]
    Proxy {
        /// The setting or the variable.
        origin: &'static str,
        /// What is wrong.
        source: InvalidProxy,
    },
    /// `from_environment` without a variable.
    #[error(
        "egress.proxy.from_environment is set, and none of HTTPS_PROXY and ALL_PROXY is in the environment of this program"
    )]
    NoVariable,
    /// The file with user and password cannot be read.
    #[error("egress.proxy.credentials_file {} cannot be read", path.display())]
    CredentialsNotRead {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file with user and password is not accepted.
    #[error("egress.proxy.credentials_file {} {why}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A file of `egress.extra_ca_files` cannot be read.
    #[error("egress.extra_ca_files: {} cannot be read", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// A file of `egress.extra_ca_files` without a certificate.
    #[error("egress.extra_ca_files: {} contains no certificate (PEM)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Too many certificates.
    #[error("egress.extra_ca_files has more than {EXTRA_CA_BYTES_MAX} bytes of certificates")]
    TooManyCertificates,
}

/// The gate. Reads the files of its proxy.
///
/// # Errors
/// [`EgressSetupError`].
pub fn open_gate(config: &Config, overrides: HostOverrides) -> Result<EgressGate, EgressSetupError> {
    let egress = &config.egress;
    let settings = EgressSettings {
        session_upload_bytes_max: egress.session_upload_mib_max << 20,
        session_download_bytes_max: egress.session_download_mib_max << 20,
        session_bytes_per_s_max: egress.session_kib_per_s_max << 10,
        ..EgressSettings::default()
    };
    let allowed = AllowedRanges::new(&egress.allowed_special_ranges);
    let allowed = allowed.map_err(|errors| EgressSetupError::Settings(errors.join("; ")))?;
    let gate = EgressGate::new(settings, overrides).with_allowed_ranges(allowed).with_proxy(open_proxy(config)?);
    // A host that trusts no authorities has none to compare with.
    let authorities = ProbeTls::new(trusted_authorities(config)?).ok();
    Ok(gate.with_authorities(authorities).with_unused_proxy_variable(unused_proxy_variable(config)))
}

/// The host overrides of the configuration.
///
/// # Errors
/// All invalid entries.
pub fn load_overrides(config: &Config) -> Result<HostOverrides, EgressSetupError> {
    HostOverrides::parse(&config.egress.overrides).map_err(|errors| {
        EgressSetupError::Settings(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })
}

/// The proxy of the configuration or of this program's environment.
///
/// # Errors
/// [`EgressSetupError`].
pub fn open_proxy(config: &Config) -> Result<Option<UpstreamProxy>, EgressSetupError> {
    let settings = &config.egress.proxy;
    let (origin, url) = match (&settings.url, settings.from_environment) {
        (Some(url), _) => ("egress.proxy.url", Secret::new(url.clone())),
        (None, true) => first_variable(&PROXY_VARIABLES).ok_or(EgressSetupError::NoVariable)?,
        (None, false) => return Ok(None),
    };
    let inherited = settings.from_environment.then(|| first_variable(&NO_PROXY_VARIABLES)).flatten();
    let inherited = inherited.map(|(_, list)| list.expose().to_owned());
    let no_proxy: Vec<String> = settings.no_proxy.iter().cloned().chain(inherited).collect();
    let roots = trusted_authorities(config)?;
    let proxy = UpstreamProxy::new(url.expose(), read_credentials(config)?, &no_proxy.join(","), roots);
    proxy.map(Some).map_err(|source| EgressSetupError::Proxy { origin, source })
}

/// A variable that names a proxy, if this program has one and its configuration names no proxy.
pub fn unused_proxy_variable(config: &Config) -> Option<&'static str> {
    let settings = &config.egress.proxy;
    let is_configured = settings.url.is_some() || settings.from_environment;
    if is_configured { None } else { first_variable(&PROXY_VARIABLES).map(|(name, _)| name) }
}

/// The first of these variables that is not empty, with its value.
fn first_variable(names: &[&'static str]) -> Option<(&'static str, Secret)> {
    names.iter().find_map(|&name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name, Secret::new(value)))
    })
}

fn read_credentials(config: &Config) -> Result<Option<ProxyCredentials>, EgressSetupError> {
    if let Some(path) = &config.egress.proxy.credentials_file {
        return read_credentials_file(path, Readers::Owner).map(Some);
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
    let provided = directory.map(|directory| directory.join(PROXY_CREDENTIAL)).filter(|path| path.exists());
    provided.map(|path| read_credentials_file(&path, Readers::ByServiceManager)).transpose()
}

fn read_credentials_file(path: &Path, readers: Readers) -> Result<ProxyCredentials, EgressSetupError> {
    let wrong = |why| Err(EgressSetupError::Credentials { path: path.to_owned(), why });
    match read_private_file(path, readers, CREDENTIALS_BYTES_MAX) {
        Ok(PrivateFile::Text(text)) => {
            let line = text.trim_end_matches(['\r', '\n']);
            match line.split_once(':') {
                Some((user, password)) if !user.is_empty() && !line.contains(char::is_control) => {
                    Ok(ProxyCredentials { user: user.to_owned(), password: Secret::new(password.to_owned()) })
                }
                Some(_) | None => wrong("must contain user:password in one line"),
            }
        }
        Ok(PrivateFile::NotAFile) => wrong("is not a file"),
        Ok(PrivateFile::ReadableByOthers { .. }) => wrong("may be read by others: chmod 600 it"),
        Err(source) => Err(EgressSetupError::CredentialsNotRead { path: path.to_owned(), source }),
    }
}

/// The certificate authorities that this host trusts, and those of `egress.extra_ca_files`.
///
/// # Errors
/// A file cannot be read or has no certificate.
pub fn trusted_authorities(config: &Config) -> Result<RootCertStore, EgressSetupError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(extra_certificates(config)?);
    Ok(roots)
}

/// The certificates of `egress.extra_ca_files` as PEM, without anything else that is in the files; empty if there are none.
///
/// # Errors
/// A file cannot be read or has no certificate, or they are too many.
pub fn extra_ca_pem(config: &Config) -> Result<String, EgressSetupError> {
    let mut text = String::new();
    for certificate in extra_certificates(config)? {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = STANDARD.encode(&certificate);
        for line in body.as_bytes().chunks(PEM_LINE_CHARS) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    if text.len() > EXTRA_CA_BYTES_MAX { Err(EgressSetupError::TooManyCertificates) } else { Ok(text) }
}

fn extra_certificates(config: &Config) -> Result<Vec<CertificateDer<'static>>, EgressSetupError> {
    let mut all = Vec::new();
    for path in &config.egress.extra_ca_files {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|source| EgressSetupError::CaFile { path: path.clone(), source })?;
        if read.is_empty() || RootCertStore::empty().add_parsable_certificates(read.clone()).0 == 0 {
            return Err(EgressSetupError::NoCertificate { path: path.clone() });
        }
        all.extend(read);
    }
    Ok(all)
}

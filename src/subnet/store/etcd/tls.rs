//! TLS to etcd: which endpoints use it, and with which certificates.

use std::path::Path;

use etcd_client::{Certificate, Identity, TlsOptions};

use super::options::{EtcdOptions, SYSTEM_AUTHORITIES};

/// Whether connections to `endpoint` use TLS. An endpoint without a scheme does if a certificate
/// is configured.
pub(super) fn is_used(options: &EtcdOptions, endpoint: &str) -> bool {
    if endpoint.starts_with("https://") {
        return true;
    }
    let has_certificate = options.ca_file.is_some() || options.cert_file.is_some();
    !endpoint.starts_with("http://") && has_certificate
}

/// The certificates for a new connection. They are read from disk for each connection, because
/// they may have been renewed.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn certificates(options: &EtcdOptions) -> Result<TlsOptions, String> {
    let mut tls = TlsOptions::new();
    if let Some(authorities) = authorities(options)? {
        tls = tls.ca_certificate(Certificate::from_pem(authorities));
    }
    if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

/// The configured certificate authorities, else those of the system.
fn authorities(options: &EtcdOptions) -> Result<Option<Vec<u8>>, String> {
    match &options.ca_file {
        Some(file) => read(file).map(Some),
        None => Ok(SYSTEM_AUTHORITIES.iter().find_map(|file| std::fs::read(file).ok())),
    }
}

/// The likely cause if a server closes a TLS connection without a message.
pub(super) fn hint(options: &EtcdOptions) -> &'static str {
    if options.cert_file.is_some() {
        "does the server trust the authority of --etcd-certfile?"
    } else {
        "does the server ask for a client certificate (--etcd-certfile)?"
    }
}

/// Reads a certificate or key.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("open {}: {error}", file.display()))
}

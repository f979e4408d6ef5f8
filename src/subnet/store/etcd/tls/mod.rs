//! TLS to etcd: which endpoints use it, with which certificates, and what is accepted.
//!
//! Files with which flanneld, that is Go's `crypto/tls`, reaches etcd work here too, or are refused
//! at the start with the name of the file.

mod files;
mod p521;
mod verifier;

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::sign::SingleCertAndKey;

use super::options::EtcdOptions;
use verifier::ServerVerifier;

/// Whether connections to `endpoint` use TLS. An endpoint without a scheme does if a certificate
/// is configured.
pub(super) fn is_used(options: &EtcdOptions, endpoint: &str) -> bool {
    if endpoint.starts_with("https://") {
        return true;
    }
    let has_certificate = options.ca_file.is_some() || options.cert_file.is_some();
    !endpoint.starts_with("http://") && has_certificate
}

/// The configuration of a new connection. The files are read for each connection, because they may
/// have been renewed.
///
/// # Errors
/// A file that cannot be used, by its name and its flag.
pub(super) fn client_config(options: &EtcdOptions) -> Result<ClientConfig, String> {
    let provider = Arc::new(CryptoProvider {
        signature_verification_algorithms: *p521::ALGORITHMS,
        ..ring::default_provider()
    });
    let verifier = ServerVerifier::new(files::authorities(options)?, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match files::identity(options)? {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// What is wrong with the files that the flags name, in a sentence each.
pub(super) fn problems(options: &EtcdOptions) -> Vec<String> {
    let authority = EtcdOptions { cert_file: None, key_file: None, ..options.clone() };
    let authority = options.ca_file.as_ref().and_then(|_| client_config(&authority).err());
    authority.into_iter().chain(files::problems(options)).collect()
}

/// The likely cause if a server closes a TLS connection without a message.
pub(super) fn hint(options: &EtcdOptions) -> &'static str {
    if options.cert_file.is_some() {
        "does the server trust the CA that signed --etcd-certfile?"
    } else {
        "does the server require a client certificate (--etcd-certfile)?"
    }
}

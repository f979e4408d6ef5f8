//! The certificates and the key that the flags name, with an error for each way in which a file can
//! be the wrong one.

use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::super::options::{EtcdOptions, SYSTEM_AUTHORITIES};
use super::p521;
use crate::subnet::store::settings::shell_word;

/// The trusted certificates, and where they are from.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) source: String,
}

/// The configured certificate authorities, else those of the system.
pub(super) fn authorities(options: &EtcdOptions) -> Result<Authorities, String> {
    let file = match &options.ca_file {
        Some(path) => PemFile::read("--etcd-cafile", path)?,
        None => SYSTEM_AUTHORITIES
            .iter()
            .find_map(|path| PemFile::read("the system's CA file", Path::new(path)).ok())
            .ok_or("this host has no CA certificates; set --etcd-cafile")?,
    };
    Ok(Authorities { certificates: file.certificates()?, source: file.name() })
}

/// The client certificate with its key, if one is configured.
pub(super) fn identity(options: &EtcdOptions) -> Result<Option<CertifiedKey>, String> {
    let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) else { return Ok(None) };
    let cert_file = PemFile::read("--etcd-certfile", cert)?;
    let key_file = PemFile::read("--etcd-keyfile", key)?;
    let certificates = cert_file.certificates()?;
    let key = p521::signing_key(key_file.key()?).map_err(|_| {
        key_file.fault(
            "its key cannot be used; use RSA with 2048 to 4096 bits, ECDSA on P-256, P-384 or P-521, \
             or Ed25519",
        )
    })?;
    // The certificate holds the key's public half as it is. It is not parsed, because a client may
    // have one of X.509 version 1, which is for the server to judge.
    let public = key.public_key();
    let leaf: &[u8] = &certificates[0];
    if public.is_some_and(|public| !leaf.windows(public.len()).any(|part| part == &*public)) {
        return Err(key_file.fault(format!(
            "its key does not belong to the first certificate in {}",
            cert_file.name()
        )));
    }
    Ok(Some(CertifiedKey::new(certificates, key)))
}

/// What is wrong with the client certificate and its key.
pub(super) fn problems(options: &EtcdOptions) -> Vec<String> {
    let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) else { return vec![] };
    let cert = PemFile::read("--etcd-certfile", cert).and_then(|file| file.certificates());
    let key = PemFile::read("--etcd-keyfile", key).and_then(|file| file.key());
    match (cert.err(), key.err()) {
        // Each by itself may be right, and the two may not fit together.
        (None, None) => identity(options).err().into_iter().collect(),
        (cert, key) => cert.into_iter().chain(key).collect(),
    }
}

/// A file in PEM form (RFC 7468).
struct PemFile<'a> {
    flag: &'static str,
    path: &'a Path,
    content: Vec<u8>,
}

impl<'a> PemFile<'a> {
    fn read(flag: &'static str, path: &'a Path) -> Result<Self, String> {
        let content =
            std::fs::read(path).map_err(|error| format!("{flag}: open {path:?}: {error}"))?;
        Ok(Self { flag, path, content })
    }

    fn name(&self) -> String {
        format!("{} {}", self.flag, self.path.display())
    }

    fn fault(&self, what: impl AsRef<str>) -> String {
        format!("{}: {}", self.name(), what.as_ref())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&self.content).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) if self.says("PRIVATE KEY-----") => Err(self.fault(SWAPPED_CERTIFICATE)),
            Ok(_) => Err(self.lacks("certificate", "CERTIFICATE", "x509")),
            Err(error) => Err(self.fault(format!("the file is damaged: {error}"))),
        }
    }

    /// The first private key of the file, as in Go.
    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        if self.says("ENCRYPTED PRIVATE KEY-----") || self.says("Proc-Type: 4,ENCRYPTED") {
            let path = self.path.display().to_string();
            return Err(self.fault(format!(
                "its key is encrypted with a passphrase, which a daemon cannot ask for; decrypt it: \
                 openssl pkey -in {} -out {}",
                shell_word(&path),
                shell_word(&format!("{path}.plain")),
            )));
        }
        match PrivateKeyDer::from_pem_slice(&self.content) {
            Ok(key) => Ok(key),
            Err(_) if self.says("BEGIN CERTIFICATE-----") && !self.says("PRIVATE KEY-----") => {
                Err(self.fault(SWAPPED_KEY))
            }
            Err(error) if self.says("PRIVATE KEY-----") => {
                Err(self.fault(format!("the file is damaged: {error}")))
            }
            Err(_) => Err(self.lacks("private key", "PRIVATE KEY", "pkey")),
        }
    }

    fn says(&self, text: &str) -> bool {
        self.content.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// The file holds nothing of use: it is empty, of another form, or another file.
    fn lacks(&self, what: &str, label: &str, command: &str) -> String {
        /// The first byte of DER's SEQUENCE (X.690, section 8.9.1).
        const DER: u8 = 0x30;
        if self.content.trim_ascii().is_empty() {
            return self.fault("the file is empty");
        }
        if self.content[0] == DER && self.content.iter().any(|byte| !byte.is_ascii()) {
            let path = self.path.display().to_string();
            return self.fault(format!(
                "the file is in DER form; convert it to PEM: openssl {command} -inform der -in {} -out {}",
                shell_word(&path),
                shell_word(&format!("{path}.pem")),
            ));
        }
        self.fault(format!("it contains no {what} (-----BEGIN {label}-----)"))
    }
}

const SWAPPED_CERTIFICATE: &str = "it contains a private key and no certificate; are --etcd-certfile and \
                                   --etcd-keyfile swapped?";
const SWAPPED_KEY: &str = "it contains a certificate and no private key; are --etcd-certfile and \
                           --etcd-keyfile swapped?";

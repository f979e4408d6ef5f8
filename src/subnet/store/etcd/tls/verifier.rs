//! Which certificates of servers are accepted.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::files::Authorities;

/// Accepts what webpki accepts, and a server whose own certificate is among the trusted ones, as
/// Go's `Certificate.Verify` does (`crypto/x509/verify.go`: a leaf that the root pool contains is a
/// chain by itself). Such a certificate still has to name the server and to be valid today.
///
/// This trusts no certificate more than before: webpki accepts any chain that a trusted certificate
/// signed, whether that one is an authority's or not.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    authorities: Authorities,
}

impl ServerVerifier {
    /// # Errors
    /// No certificate that could sign others.
    pub(super) fn new(
        authorities: Authorities,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.certificates.iter().cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| format!("{}: it contains no usable certificate", authorities.source))?;
        Ok(Self { webpki, authorities })
    }

    /// Whether the refusal is about the chain to an authority only. webpki looks at dates first,
    /// then at the role (an authority's certificate is refused as a server's), then at the purpose
    /// and at the chain (`check_issuer_independent_properties` in its `verify_cert.rs`).
    fn is_about_the_chain(error: &Error) -> bool {
        use CertificateError as Why;
        #[allow(deprecated)]
        let chain = |why: &Why| match why {
            Why::UnknownIssuer
            | Why::BadSignature
            | Why::UnsupportedSignatureAlgorithm
            | Why::UnsupportedSignatureAlgorithmContext { .. }
            | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
            why => is_role(why),
        };
        matches!(error, Error::InvalidCertificate(why) if chain(why))
    }

    /// The error in terms of the files.
    fn explain(&self, error: Error) -> Error {
        let Error::InvalidCertificate(why) = &error else { return error };
        let source = &self.authorities.source;
        match why {
            CertificateError::UnknownIssuer => Error::General(format!(
                "no certificate in {source} signed the server's certificate"
            )),
            CertificateError::BadSignature => Error::General(format!(
                "a CA in {source} has the same name as the one that signed the server's certificate but a \
                 different key, or an RSA key is shorter than 2048 bits"
            )),
            why if is_role(why) => Error::General(format!(
                "the server's certificate is a CA certificate (CA:TRUE) and is not in {source}: add it \
                 there, or give the server one without CA:TRUE"
            )),
            _ => error,
        }
    }
}

/// Whether an authority's certificate was refused as that of a server.
fn is_role(why: &CertificateError) -> bool {
    matches!(why, CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity"))
}

/// ring has no other word for a signature by an RSA key that it finds too short.
fn signature_error(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => Error::General(
            "the server's signature is wrong, or its RSA key is shorter than 2048 bits, which is not \
             supported: give the server a longer key"
                .to_owned(),
        ),
        other => other,
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let error = match verified {
            Err(error) if Self::is_about_the_chain(&error) => error,
            other => return other,
        };
        if !self.authorities.certificates.iter().any(|trusted| trusted == end_entity) {
            return Err(self.explain(error));
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, signature).map_err(signature_error)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, signature).map_err(signature_error)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, date_time_ymd,
    };
    use tokio_rustls::rustls::crypto::ring;

    use super::*;

    /// Whether a server is accepted that shows `leaf` when these certificates are trusted.
    fn verify(
        trusted: &[&CertificateDer<'static>],
        leaf: &CertificateDer<'_>,
        name: &str,
        year: i32,
    ) -> Result<(), String> {
        let certificates = trusted.iter().copied().cloned().collect();
        let authorities = Authorities { certificates, source: "ca.pem".to_owned() };
        let verifier = ServerVerifier::new(authorities, Arc::new(ring::default_provider()))?;
        let now = date_time_ymd(year, 7, 1).unix_timestamp() as u64;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(leaf, &[], &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    fn params(is_ca: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        if is_ca {
            params.distinguished_name.push(DnType::CommonName, "authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    /// As Go: a trusted leaf needs no chain, but a name and a date; any other needs all three.
    #[test]
    fn a_trusted_leaf_is_a_chain_by_itself() {
        let ca_key = KeyPair::generate().unwrap();
        let ca = params(true).self_signed(&ca_key).unwrap().der().clone();
        let issuer = Issuer::new(params(true), ca_key);
        let key = KeyPair::generate().unwrap();
        let signed =
            |params: CertificateParams| params.signed_by(&key, &issuer).unwrap().der().clone();
        let (leaf, ca_leaf) = (signed(params(false)), signed(params(true)));
        let own = params(false).self_signed(&key).unwrap().der().clone();
        let own_ca = params(true).self_signed(&key).unwrap().der().clone();
        let mut purpose = params(false);
        purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = signed(purpose);
        for (trusted, leaf) in
            [(&ca, &leaf), (&leaf, &leaf), (&own, &own), (&own_ca, &own_ca), (&ca_leaf, &ca_leaf)]
        {
            verify(&[trusted], leaf, "127.0.0.1", 2026).unwrap();
            for (name, year) in [("127.0.0.2", 2026), ("127.0.0.1", 2031), ("127.0.0.1", 2019)] {
                assert!(verify(&[trusted], leaf, name, year).is_err(), "{name} {year}");
            }
        }
        let refused = |trusted, leaf| verify(&[trusted], leaf, "127.0.0.1", 2026).unwrap_err();
        assert!(refused(&own, &leaf).contains("no certificate in ca.pem signed"));
        assert!(refused(&ca, &ca_leaf).contains("CA:TRUE) and is not in ca.pem"));
        assert!(
            refused(&client, &client).contains("extended key usage"),
            "a client's is no server's"
        );
    }
}

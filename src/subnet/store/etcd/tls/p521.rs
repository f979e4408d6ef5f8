//! ECDSA on the curve P-521, which ring lacks. `etcd --auto-tls` makes such certificates
//! (`client/pkg/transport/listener.go`).

use std::sync::{Arc, LazyLock};

use ::p521::ecdsa::signature::Signer as _;
use ::p521::ecdsa::signature::hazmat::PrehashVerifier;
use ::p521::ecdsa::{Signature, SigningKey as EcdsaKey, VerifyingKey};
use ::p521::pkcs8::{DecodePrivateKey, EncodePublicKey};
use ring::digest;
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use tokio_rustls::rustls::sign::{Signer, SigningKey};
use tokio_rustls::rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// What ring verifies, and signatures with P-521.
pub(super) static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let ring = provider::default_provider().signature_verification_algorithms;
    let mut all = ring.all.to_vec();
    all.extend([SHA512, SHA384, SHA256]);
    // In TLS 1.2 the hash of a scheme goes with any curve; in TLS 1.3 the first algorithm of a
    // scheme counts (RFC 8446, section 4.2.3).
    let with = |scheme: &SignatureScheme| match *scheme {
        SignatureScheme::ECDSA_NISTP384_SHA384 => Some(SHA384),
        SignatureScheme::ECDSA_NISTP256_SHA256 => Some(SHA256),
        _ => None,
    };
    let mut mapping: Vec<(SignatureScheme, &'static [_])> = ring
        .mapping
        .iter()
        .map(|(scheme, algorithms)| match with(scheme) {
            Some(more) => (*scheme, &*[*algorithms, &[more]].concat().leak()),
            None => (*scheme, *algorithms),
        })
        .collect();
    mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, vec![SHA512].leak()));
    WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() }
});

/// Reads a key of any kind that ring or this module can sign with.
///
/// # Errors
/// A key of another kind.
pub(super) fn signing_key(key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
    let parsed = match &key {
        PrivateKeyDer::Pkcs8(der) => EcdsaKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Sec1(der) => {
            ::p521::SecretKey::from_sec1_der(der.secret_sec1_der()).ok().map(EcdsaKey::from)
        }
        _ => None,
    };
    match parsed {
        Some(key) => Ok(Arc::new(P521Key::new(key)?)),
        None => provider::sign::any_supported_type(&key),
    }
}

static SHA256: &dyn SignatureVerificationAlgorithm =
    &Verification { hash: &digest::SHA256, id: alg_id::ECDSA_SHA256 };
static SHA384: &dyn SignatureVerificationAlgorithm =
    &Verification { hash: &digest::SHA384, id: alg_id::ECDSA_SHA384 };
static SHA512: &dyn SignatureVerificationAlgorithm =
    &Verification { hash: &digest::SHA512, id: alg_id::ECDSA_SHA512 };

/// Verifies signatures over one kind of hash.
#[derive(Debug)]
struct Verification {
    hash: &'static digest::Algorithm,
    id: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Verification {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let hash = digest::digest(self.hash, message);
        // A hash is a number of at most the field's length (FIPS 186-5, section 6.4.2).
        let mut number = [0; FIELD_LEN];
        number[FIELD_LEN - hash.as_ref().len()..].copy_from_slice(hash.as_ref());
        let verify = || {
            let signature = Signature::from_der(signature)?;
            VerifyingKey::from_sec1_bytes(public_key)?.verify_prehash(&number, &signature)
        };
        verify().map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}

/// A client's key.
#[derive(Clone)]
struct P521Key {
    key: EcdsaKey,
    public: Vec<u8>,
}

impl P521Key {
    fn new(key: EcdsaKey) -> Result<Self, Error> {
        let public = key.verifying_key().to_public_key_der();
        let public = public.map_err(|error| Error::General(error.to_string()))?.into_vec();
        Ok(Self { key, public })
    }
}

impl std::fmt::Debug for P521Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("P521Key (hidden)")
    }
}

impl SigningKey for P521Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.public.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for P521Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Signature =
            self.key.try_sign(message).map_err(|error| Error::General(error.to_string()))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP521_SHA512;
/// Bytes of a number of the field: 521 bits.
const FIELD_LEN: usize = 66;

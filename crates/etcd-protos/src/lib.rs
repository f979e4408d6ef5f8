//! The part of `tonic-prost-build` that etcd-client's build script calls, without `protoc`: the
//! code was generated in advance and is copied. See `README.md`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What etcd-client includes: each file's name and its text.
const GENERATED: [(&str, &str); 5] = [
    ("authpb.rs", include_str!("../generated/authpb.rs")),
    ("etcdserverpb.rs", include_str!("../generated/etcdserverpb.rs")),
    ("mvccpb.rs", include_str!("../generated/mvccpb.rs")),
    ("v3electionpb.rs", include_str!("../generated/v3electionpb.rs")),
    ("v3lockpb.rs", include_str!("../generated/v3lockpb.rs")),
];

/// The versions that generated the code and the checksum of the `.proto` files, a `name value` per line.
const ORIGIN: &str = include_str!("../generated/origin");

/// The options of the generator, as in the crate that this one replaces.
#[derive(Debug, Default)]
pub struct Builder {
    server: bool,
}

/// Begins with the default options.
pub fn configure() -> Builder {
    Builder::default()
}

impl Builder {
    /// Whether code of a gRPC server is wanted. [`Builder::compile_protos`] refuses it.
    #[must_use]
    pub fn build_server(mut self, enable: bool) -> Self {
        self.server = enable;
        self
    }

    /// Writes the generated code to cargo's output directory, `OUT_DIR`.
    ///
    /// # Errors
    ///
    /// If the `.proto` files are not those that the code was generated from, if server code is
    /// wanted, or if a file cannot be read or written.
    pub fn compile_protos(
        self,
        protos: &[impl AsRef<Path>],
        _includes: &[impl AsRef<Path>],
    ) -> io::Result<()> {
        if self.server {
            return Err(io::Error::other("only etcd's client was generated, not the server"));
        }
        let found = format!("{:016x}", checksum(protos)?);
        if Some(found.as_str()) != origin("protos") {
            return Err(io::Error::other(format!(
                "the protocol of this etcd-client (checksum {found}) is not the one that the code was \
                 generated from (etcd-client {}): run scripts/etcd-protos.sh, or build with --locked",
                origin("etcd-client").unwrap_or("unknown"),
            )));
        }
        let directory =
            env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
        for (name, text) in GENERATED {
            fs::write(PathBuf::from(&directory).join(name), text)?;
        }
        Ok(())
    }
}

/// The value that `generated/origin` has for `name`.
fn origin(name: &str) -> Option<&'static str> {
    ORIGIN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// FNV-1a, 64 bits, of the files' contents in order. It detects a change, not an attack: cargo
/// verifies what it downloads.
fn checksum(files: &[impl AsRef<Path>]) -> io::Result<u64> {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in fs::read(file)? {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(sum)
}

//! The environment file with this host's subnet for the container runtime,
//! `/run/flannel/subnet.env`.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::output_file;
use crate::route::Cidr;

/// Content of the subnet file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetFile {
    /// The overlay network.
    pub network: Cidr,
    /// This host's subnet.
    pub subnet: Cidr,
    /// MTU of the overlay, in bytes.
    pub mtu: u32,
    /// Whether the daemon masquerades, so that the container runtime need not.
    pub ip_masq: bool,
}

impl fmt::Display for SubnetFile {
    /// Formats the four lines of flannel's `WriteSubnetFile`. The subnet is written as its first
    /// host address with the prefix length, the form that a bridge needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateway =
            std::net::Ipv4Addr::from_bits(self.subnet.network().to_bits().wrapping_add(1));
        writeln!(f, "FLANNEL_NETWORK={}", self.network)?;
        writeln!(f, "FLANNEL_SUBNET={gateway}/{}", self.subnet.len())?;
        writeln!(f, "FLANNEL_MTU={}", self.mtu)?;
        writeln!(f, "FLANNEL_IPMASQ={}", self.ip_masq)
    }
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the subnet file {}: {source}", path.display())]
pub struct SubnetFileError {
    path: PathBuf,
    source: io::Error,
}

/// Writes the file as [`output_file::write`] does: replaced atomically, mode 0644, through a link.
///
/// # Errors
/// The directory or the file cannot be written.
pub fn write(path: &Path, content: &SubnetFile) -> Result<(), SubnetFileError> {
    output_file::write(path, &content.to_string())
        .map_err(|source| SubnetFileError { path: path.to_owned(), source })
}

/// Content of the subnet file of an earlier run; each part only where it can be parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviousSubnetFile {
    /// `FLANNEL_NETWORK`.
    pub network: Option<Cidr>,
    /// `FLANNEL_SUBNET`, as the subnet instead of the bridge's address.
    pub subnet: Option<Cidr>,
    /// Descriptions of what could not be parsed, for a warning.
    pub problems: Vec<String>,
}

/// Reads the file that an earlier run of this daemon or of flanneld left. A missing file is not a
/// problem. A device or a pipe is not read: it holds nothing, and a pipe may never answer.
pub fn read_previous(path: &Path) -> PreviousSubnetFile {
    let mut previous = PreviousSubnetFile::default();
    if output_file::target(path).is_none() {
        return previous;
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return previous,
        Err(error) => {
            previous.problems.push(format!("cannot read {}: {error}", path.display()));
            return previous;
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    for (key, slot) in
        [("FLANNEL_NETWORK", &mut previous.network), ("FLANNEL_SUBNET", &mut previous.subnet)]
    {
        match variable(&text, key)
            .filter(|value| !value.is_empty())
            .map(|value| (value.parse(), value))
        {
            None => {}
            Some((Ok(cidr), _)) => *slot = Some(cidr),
            Some((Err(error), value)) => previous
                .problems
                .push(format!("{key}={value:?} in {} is {error}; it is ignored", path.display())),
        }
    }
    previous
}

/// Returns the value of a variable in an environment file: that of the last assignment, without
/// `export `, quotes and comments.
pub fn variable(text: &str, key: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let value = line.strip_prefix(key)?.strip_prefix('=')?;
        for quote in ['"', '\''] {
            if let Some((inner, _)) = value.strip_prefix(quote).and_then(|v| v.split_once(quote)) {
                return Some(inner.to_owned());
            }
        }
        let value = value.split_once(" #").map_or(value, |(value, _)| value);
        Some(value.trim_end().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SubnetFile {
        SubnetFile {
            network: "10.0.0.0/16".parse().unwrap(),
            subnet: "10.0.20.0/24".parse().unwrap(),
            mtu: 1472,
            ip_masq: true,
        }
    }

    #[test]
    fn the_text_is_that_of_flannel() {
        assert_eq!(
            sample().to_string(),
            "FLANNEL_NETWORK=10.0.0.0/16\nFLANNEL_SUBNET=10.0.20.1/24\nFLANNEL_MTU=1472\n\
             FLANNEL_IPMASQ=true\n"
        );
        assert!(SubnetFile { ip_masq: false, ..sample() }.to_string().ends_with("IPMASQ=false\n"));
    }

    #[test]
    fn what_is_written_is_read_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/subnet.env");
        write(&path, &sample()).unwrap();
        let previous = read_previous(&path);
        assert_eq!(previous.network, Some(sample().network));
        assert_eq!(previous.subnet, Some(sample().subnet));
        assert!(previous.problems.is_empty());
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_named() {
        let error = write(Path::new("/proc/nope/subnet.env"), &sample()).unwrap_err().to_string();
        assert!(error.contains("/proc/nope/subnet.env"), "{error}");
    }

    #[test]
    fn previous_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        assert_eq!(read_previous(&path), PreviousSubnetFile::default());
        for (text, network, subnet, problems) in [
            ("FLANNEL_SUBNET=10.0.7.1/24\n", None, Some("10.0.7.0/24"), 0),
            ("export FLANNEL_SUBNET=\"10.0.7.1/24\"", None, Some("10.0.7.0/24"), 0),
            ("FLANNEL_SUBNET='10.0.7.1/24' # mine", None, Some("10.0.7.0/24"), 0),
            ("FLANNEL_SUBNET=10.0.7.1/24 # mine\r\n", None, Some("10.0.7.0/24"), 0),
            (
                "FLANNEL_SUBNET=10.0.7.1/24\nFLANNEL_SUBNET=10.0.8.1/24",
                None,
                Some("10.0.8.0/24"),
                0,
            ),
            ("FLANNEL_NETWORK=10.0.0.0/16,10.1.0.0/16\nFLANNEL_SUBNET=x", None, None, 2),
            ("FLANNEL_NETWORK=10.0.0.0/16\nFLANNEL_SUBNET=", Some("10.0.0.0/16"), None, 0),
            ("# FLANNEL_SUBNET=10.0.7.1/24\n\u{fffd}\n", None, None, 0),
            ("", None, None, 0),
        ] {
            fs::write(&path, text).unwrap();
            let previous = read_previous(&path);
            assert_eq!(previous.network.map(|c| c.to_string()).as_deref(), network, "{text:?}");
            assert_eq!(previous.subnet.map(|c| c.to_string()).as_deref(), subnet, "{text:?}");
            assert_eq!(previous.problems.len(), problems, "{text:?}");
        }
    }
}

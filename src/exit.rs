//! The exit codes of every command: one per kind of failure, in the numbering of BSD's `sysexits.h`
//! where it has a name that fits, so that a supervisor can tell "fix the flags" from "try again".

use std::fmt;
use std::process::{ExitCode, Termination};

/// Why the process ended, as its exit code. `docs/compatibility.md` lists the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Clean end: stopped by a signal, help, version, or the command did its work.
    Ok = 0,
    /// A check that the command exists to make has failed (`demo`, `doctor`, `bench`).
    CheckFailed = 1,
    /// Nothing is broken, but a check gave a warning (`doctor`).
    Warned = 2,
    /// Unknown flag, bad value, refused flag (`EX_USAGE`).
    Usage = 64,
    /// The network configuration or another input has content that cannot be used (`EX_DATAERR`).
    BadData = 65,
    /// A file named by a flag is missing or unreadable (`EX_NOINPUT`).
    NoInput = 66,
    /// No interface of this host fits the interface flags, or it has no usable address (`EX_NOHOST`).
    NoInterface = 68,
    /// A program or service that is needed is absent or refuses: firewall tool, health or metrics
    /// port, status socket, the daemon that a command asks (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A defect of this program: a thread panicked (`EX_SOFTWARE`).
    Software = 70,
    /// The kernel refused a socket, a route or another resource (`EX_OSERR`).
    System = 71,
    /// The TUN device cannot be opened: `/dev/net/tun` missing or driver absent (`EX_OSFILE`).
    Tun = 72,
    /// An output file cannot be created (`EX_CANTCREAT`).
    CannotCreate = 73,
    /// No lease can be had: out of subnets, or the address is in use by another live host.
    NoLease = 74,
    /// The lease was lost and `--exit-on-lease-loss` is set (`EX_TEMPFAIL`: starting again may help).
    LeaseLost = 75,
    /// A capability is missing, usually `CAP_NET_ADMIN` (`EX_NOPERM`).
    Permission = 77,
    /// The options are well-formed but ask for something that cannot work (`EX_CONFIG`): lease store
    /// settings, TLS files that do not fit together.
    Config = 78,
}

impl Code {
    /// Every code, in ascending order.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::CheckFailed,
        Self::Warned,
        Self::Usage,
        Self::BadData,
        Self::NoInput,
        Self::NoInterface,
        Self::Unavailable,
        Self::Software,
        Self::System,
        Self::Tun,
        Self::CannotCreate,
        Self::NoLease,
        Self::LeaseLost,
        Self::Permission,
        Self::Config,
    ];

    /// What the code means, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "clean end",
            Self::CheckFailed => "the check that was asked for has failed",
            Self::Warned => "a check gave a warning, none has failed",
            Self::Usage => "unknown flag, bad value or refused flag",
            Self::BadData => "the network configuration or an input file has unusable content",
            Self::NoInput => "a file named by a flag is missing or unreadable",
            Self::NoInterface => "no network interface fits",
            Self::Unavailable => "a needed program, port or service is not available",
            Self::Software => "a defect of this program",
            Self::System => "the kernel refused a socket, route or other resource",
            Self::Tun => "the TUN device cannot be opened",
            Self::CannotCreate => "an output file cannot be created",
            Self::NoLease => "no subnet lease can be had",
            Self::LeaseLost => "the subnet lease was lost",
            Self::Permission => "a capability is missing",
            Self::Config => "the options ask for something that cannot work",
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The end of the process before or instead of a command: a code and what to tell the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: Code,
    /// Text to print, may be empty. Help and version go to stdout, everything else to stderr.
    pub message: String,
}

impl Exit {
    /// An end with `code` after printing `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Exit {}

impl Termination for Exit {
    /// Prints the message, with a line end, to stdout for a clean end and to stderr otherwise.
    fn report(self) -> ExitCode {
        use std::io::Write;
        let text = self.message.trim_end();
        if !text.is_empty() {
            // A closed pipe is no reason to change the exit code.
            let _ = match self.code {
                Code::Ok => writeln!(std::io::stdout(), "{text}"),
                _ => writeln!(std::io::stderr(), "{text}"),
            };
        }
        self.code.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_ascending() {
        assert!(Code::ALL.windows(2).all(|w| (w[0] as u8) < (w[1] as u8)));
        for code in Code::ALL {
            assert!(!code.meaning().is_empty());
        }
    }
}

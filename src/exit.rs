//! The exit codes of the daemon and of every command: one per kind of failure.
//!
//! The numbers are those of BSD's `sysexits.h` where it has a name that fits, so that a supervisor can
//! distinguish "correct the flags" from "try again". The table below is the only list of codes: the manual
//! page prints it, and `docs/compatibility.md` repeats it for users.

use std::fmt;
use std::process::{ExitCode, Termination};

/// Declares [`Code`], the list of all codes, and the meaning of each in a few words.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $meaning:literal;)*) => {
        /// Why the process ended, as its exit code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code, in ascending order.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$name),*];

            /// The meaning of the code in a few words, for the manual page.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

codes! {
    /// Stopped by a signal, help, version, or the command did its work.
    Ok = 0, "success, or stopped by a signal";
    /// A check that the command exists to make has failed (`demo`, `bench`, `doctor`, `ping`, `status --all`).
    CheckFailed = 1, "the requested check failed (demo, bench, doctor, ping, status --all)";
    /// Nothing is broken, but a check gave a warning (`doctor`); the target could not be tried, as in `ping(8)` (`ping`).
    Warned = 2, "a check gave a warning, none failed (doctor); the target could not be tried (ping)";
    /// Unknown flag, bad value, refused flag (`EX_USAGE`).
    Usage = 64, "unknown flag, bad value or refused flag";
    /// The network configuration or another input has content that cannot be used (`EX_DATAERR`).
    BadData = 65, "the network configuration or an input file has unusable content";
    /// A file named by a flag is missing or unreadable (`EX_NOINPUT`).
    NoInput = 66, "a file named by a flag is missing or unreadable";
    /// No interface of this host matches the interface flags, or it has no usable address (`EX_NOHOST`).
    NoInterface = 68, "no network interface matches";
    /// A program or service that is needed is absent or refuses: firewall tool, health or metrics
    /// port, status socket, the daemon that a command queries (`EX_UNAVAILABLE`).
    Unavailable = 69, "a required program, port or service is not available";
    /// A defect of this program: a thread panicked (`EX_SOFTWARE`).
    Software = 70, "a defect of this program";
    /// The kernel refused a socket, a route or another resource (`EX_OSERR`).
    System = 71, "the kernel refused a socket, route or other resource";
    /// The TUN device cannot be opened: `/dev/net/tun` missing or driver absent (`EX_OSFILE`).
    Tun = 72, "the TUN device cannot be opened";
    /// An output file cannot be created (`EX_CANTCREAT`).
    CannotCreate = 73, "an output file cannot be created";
    /// No lease is available: no free subnet, or another live host uses the address.
    NoLease = 74, "no subnet lease is available";
    /// The lease was lost and `--exit-on-lease-loss` is set (`EX_TEMPFAIL`: starting again may help).
    LeaseLost = 75, "the subnet lease was lost";
    /// A capability is missing, usually `CAP_NET_ADMIN` (`EX_NOPERM`).
    Permission = 77, "a capability is missing";
    /// The options are well-formed but ask for something that cannot work (`EX_CONFIG`): lease store
    /// settings, TLS files that do not fit together.
    Config = 78, "the options ask for something that cannot work";
    /// A signal interrupted `demo` or `bench`: 128 and the number of SIGINT, as shells report it.
    Interrupted = 130, "interrupted by a signal (demo, bench)";
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The end of the process before or instead of a command: an exit code and a message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: Code,
    /// The text to print; may be empty. Help and version go to stdout, everything else to stderr.
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
    }

    #[test]
    fn the_documentation_lists_every_code() {
        let page = include_str!("../docs/compatibility.md");
        for code in Code::ALL {
            assert!(page.contains(&format!("\n| {} | ", code as u8)), "{code:?}");
        }
    }
}

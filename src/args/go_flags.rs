//! Go's spellings of flags, normalized to the one that clap parses.
//!
//! Go's `flag` package accepts `-name` and `--name` alike, values as `-name=value` or `-name value`
//! (with any next argument, even one that starts with a dash), and booleans as `-name` or
//! `-name=true` but never as `-name true`. A bare `-` or anything without a dash ends the flags; so
//! does `--`.

use std::ffi::{OsStr, OsString};

/// The kind of a flag: whether its value may be the next argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagKind {
    /// Boolean: the value only after `=`; without one it means true.
    Bool,
    /// Any other: the value after `=` or as the next argument.
    Value,
}

/// Rewrites `args` (without the program's name) so that every known flag reads `--name=value`.
///
/// Arguments after the end of the flags are left unchanged. Flags that `kind_of` does not know only get the second
/// dash, so that clap can report them.
pub fn normalize(
    args: impl IntoIterator<Item = OsString>,
    kind_of: impl Fn(&str) -> Option<FlagKind>,
) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some((name, value)) = split(&arg) else {
            out.push(arg);
            break;
        };
        // Go has no short flags; `-h` is its other spelling of `-help`, and here asks for a summary.
        let dashes = if name == "h" && value.is_none() { "-" } else { "--" };
        let mut flag = OsString::from(format!("{dashes}{name}"));
        match (value, kind_of(&name)) {
            (Some(value), _) => {
                flag.push("=");
                flag.push(value);
            }
            (None, Some(FlagKind::Bool)) => flag.push("=true"),
            (None, Some(FlagKind::Value)) => {
                if let Some(value) = args.next() {
                    flag.push("=");
                    flag.push(value);
                }
            }
            // Help, version and unknown flags.
            (None, None) => {}
        }
        out.push(flag);
    }
    out.extend(args);
    out
}

/// Removes text flags with an empty value, as a wrapper passes a variable that is not set: `--name=` or `--name ""`.
///
/// `is_text` says which flags take text. Arguments after `--` are left unchanged.
pub fn without_empty(args: Vec<OsString>, is_text: impl Fn(&str) -> bool) -> Vec<OsString> {
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let is_empty = match split(&arg).filter(|(name, _)| is_text(name)) {
            Some((_, Some(value))) => value.is_empty(),
            Some((_, None)) => args.next_if(|next| next.is_empty()).is_some(),
            None => false,
        };
        if !is_empty {
            out.push(arg);
        }
    }
    out.extend(args);
    out
}

/// Name and value of an argument that is a flag.
fn split(arg: &OsStr) -> Option<(String, Option<OsString>)> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = arg.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let (name, value) = match body.iter().position(|b| *b == b'=') {
        Some(at) => (&body[..at], Some(OsString::from_vec(body[at + 1..].to_vec()))),
        None => (body, None),
    };
    let name = std::str::from_utf8(name).ok()?;
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let name = if name == "V" { "version" } else { name };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(name: &str) -> Option<FlagKind> {
        match name {
            "ip-masq" | "version" => Some(FlagKind::Bool),
            "iface" | "v" | "etcd-prefix" => Some(FlagKind::Value),
            _ => None,
        }
    }

    fn run(args: &[&str]) -> Vec<String> {
        normalize(args.iter().map(OsString::from), kind_of)
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect()
    }

    #[test]
    fn every_spelling() {
        let table: &[(&[&str], &[&str])] = &[
            (&["-iface=eth0"], &["--iface=eth0"]),
            (&["--iface=eth0"], &["--iface=eth0"]),
            (&["-iface", "eth0"], &["--iface=eth0"]),
            (&["--iface", "eth0"], &["--iface=eth0"]),
            (&["-iface="], &["--iface="]),
            (&["-iface", "-x"], &["--iface=-x"]),
            (&["-iface=a=b"], &["--iface=a=b"]),
            (&["-ip-masq"], &["--ip-masq=true"]),
            (&["--ip-masq"], &["--ip-masq=true"]),
            (&["-ip-masq=false"], &["--ip-masq=false"]),
            (&["--ip-masq=T"], &["--ip-masq=T"]),
            (&["-ip-masq", "-iface", "x"], &["--ip-masq=true", "--iface=x"]),
            (&["-ip-masq", "true", "-v", "1"], &["--ip-masq=true", "true", "-v", "1"]),
            (&["-v=1"], &["--v=1"]),
            (&["-v", "1"], &["--v=1"]),
            (&["-h"], &["-h"]),
            (&["--h"], &["-h"]),
            (&["-help"], &["--help"]),
            (&["-iface"], &["--iface"]),
            (&["-nosuch", "x"], &["--nosuch", "x"]),
            (&["-nosuch=1", "-v=2"], &["--nosuch=1", "--v=2"]),
            (&["-"], &["-"]),
            (&["--", "-v"], &["--", "-v"]),
            (&["---v"], &["---v"]),
            (&["stray", "-v"], &["stray", "-v"]),
            (&[], &[]),
        ];
        for (args, expected) in table {
            assert_eq!(run(args), *expected, "{args:?}");
        }
    }

    #[test]
    fn a_text_flag_with_an_empty_value_is_not_given() {
        let is_text = |name: &str| kind_of(name) == Some(FlagKind::Value) && name != "v";
        let table: &[(&[&str], &[&str])] = &[
            (&["--iface="], &[]),
            (&["-iface="], &[]),
            (&["--iface", ""], &[]),
            (&["-iface", "", "-v=1"], &["-v=1"]),
            (&["--iface", "eth0", ""], &["--iface", "eth0", ""]),
            (&["--iface=eth0", "--iface="], &["--iface=eth0"]),
            // Numbers and booleans have no empty value, and an unknown flag is reported.
            (&["--v=", "--ip-masq=", "--nosuch="], &["--v=", "--ip-masq=", "--nosuch="]),
            (&["list", "--iface="], &["list"]),
            (&["--", "--iface="], &["--", "--iface="]),
            (&["--iface"], &["--iface"]),
            (&["", "--iface=x"], &["", "--iface=x"]),
        ];
        for (args, expected) in table {
            let args = args.iter().map(OsString::from).collect();
            assert_eq!(without_empty(args, is_text), *expected, "{expected:?}");
        }
    }

    proptest! {
        #[test]
        fn normal_form_is_stable(args in proptest::collection::vec(
            "[-]{0,3}(iface|ip-masq|v|nosuch|)(=[a-z=-]{0,4})?", 0..8,
        )) {
            let once = normalize(args.iter().map(OsString::from), kind_of);
            let twice = normalize(once.clone(), kind_of);
            prop_assert_eq!(once, twice);
        }
    }
}

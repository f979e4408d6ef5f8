//! Go's way of writing flags, turned into the one spelling that the parser reads.
//!
//! Go's `flag` package takes `-name` and `--name` alike, values as `-name=value` or `-name value`
//! (whatever the next argument is, even if it starts with a dash), and booleans as `-name` or
//! `-name=true` but never as `-name true`. A bare `-` or anything without a dash ends the flags; so
//! does `--`.

use std::ffi::{OsStr, OsString};

/// How a flag takes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Boolean: the value only after `=`; without one it means true.
    Bool,
    /// Any other: the value after `=` or as the next argument.
    Value,
}

/// Rewrites `args` (without the program's name) so that every known flag reads `--name=value`.
///
/// What comes after the end of the flags, and flags that `kind_of` does not know, are left as they
/// are but for the second dash, for the parser to complain about.
pub fn normalize(
    args: impl IntoIterator<Item = OsString>,
    kind_of: impl Fn(&str) -> Option<Kind>,
) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let Some((name, value)) = split(&arg) else {
            out.push(arg);
            break;
        };
        let mut flag = OsString::from(format!("--{name}"));
        match (value, kind_of(&name)) {
            (Some(value), _) => {
                flag.push("=");
                flag.push(value);
            }
            (None, Some(Kind::Bool)) => flag.push("=true"),
            (None, Some(Kind::Value)) => {
                if let Some(value) = args.next() {
                    flag.push("=");
                    flag.push(value);
                }
            }
            // Help, version and what nobody knows.
            (None, None) => {}
        }
        out.push(flag);
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
    // Go knows no short flags; these two are its spellings of help.
    let name = if name == "h" { "help" } else { name };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(name: &str) -> Option<Kind> {
        match name {
            "ip-masq" | "version" => Some(Kind::Bool),
            "iface" | "v" | "etcd-prefix" => Some(Kind::Value),
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
            (&["-h"], &["--help"]),
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

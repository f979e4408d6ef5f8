//! Everything that is wrong with a command line, for `--check`.

use std::ffi::OsString;

use super::clap_command;

/// The arguments that are right, each by itself; `problems` gets a line for every other.
pub(super) fn without_wrong(args: Vec<OsString>, problems: &mut Vec<String>) -> Vec<OsString> {
    let is_right = |arg: &OsString| match refusal(arg) {
        Some(error) => {
            problems.push(brief(&error.render().to_string()));
            false
        }
        None => true,
    };
    args.into_iter().filter(is_right).collect()
}

/// Why clap rejects this argument of the daemon.
pub(super) fn refusal(arg: &OsString) -> Option<clap::Error> {
    let alone = [OsString::from("flannel-udp"), arg.clone()];
    clap_command().try_get_matches_from(alone).err()
}

/// An error message of clap in one line, without the advice that ends it.
pub(super) fn brief(message: &str) -> String {
    let advice = message.find("\n\nUsage:").or_else(|| message.find("\n\nFor more information"));
    // The name of a variable comes behind the advice.
    let (text, rest) = message.split_at(advice.unwrap_or(message.len()));
    let variable = rest.rfind("\n(the value").map_or("", |start| &rest[start..]);
    let text = text.strip_prefix("error: ").unwrap_or(text).to_owned() + variable;
    let text = text.replace("\n\n  tip:", "; tip:");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{Invocation, parse_from};
    use super::*;
    use crate::exit::Code;

    fn problems(args: &[&str], variable: (&str, &str)) -> Vec<String> {
        let args = ["flannel-udp"].iter().chain(args).map(OsString::from);
        match parse_from(args, |name| (name == variable.0).then(|| variable.1.into())) {
            Ok(Invocation::Check(_, problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_check_collects_what_is_wrong() {
        assert_eq!(problems(&["-check", "--ip-masq"], ("X", "")), [""; 0]);
        let found = problems(
            &[
                "-nosuch=1",
                "-workers=many",
                "-check",
                "-use-multi-cluster-cidr",
                "-kube-api-url=x",
                "stray",
                "-x",
            ],
            ("FLANNELD_PUBLIC_IP", "bogus"),
        );
        let parts = [
            "'stray'",
            "'--nosuch'",
            "--workers",
            "FLANNELD_PUBLIC_IP",
            "--kube-api",
            "--use-multi",
        ];
        assert_eq!(found.len(), parts.len(), "{found:?}");
        for part in parts {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        }
        assert!(
            found.iter().all(|text| !text.contains('\n') && !text.contains("--help")),
            "{found:?}"
        );
    }

    #[test]
    fn a_variable_makes_no_check() {
        let run = |args: &[&str]| {
            let args = ["flannel-udp"].iter().chain(args).map(OsString::from);
            parse_from(args, |name| (name == "FLANNELD_CHECK").then(|| "true".into()))
        };
        assert!(matches!(run(&[]), Ok(Invocation::Daemon(_))));
        assert!(matches!(run(&["--check=false"]), Ok(Invocation::Daemon(_))));
        assert!(matches!(run(&["--check", "--help"]), Err(exit) if exit.code == Code::Ok));
    }
}

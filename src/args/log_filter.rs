//! Which lines are logged: what `--log-level`, `-v` and the command `log-level` take.

use tracing_subscriber::EnvFilter;

/// Brings a level or a filter into the form that [`EnvFilter`] takes. A level is for this program's own lines:
/// the libraries log far more at the same level, and have their own only if a filter names them.
///
/// # Errors
/// A sentence for the user, which lists the levels.
pub fn log_filter(text: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        parts.push(match part.rsplit_once('=') {
            Some((target, name)) if !target.is_empty() => {
                let wanted = level(name).ok_or_else(|| unknown(name))?;
                format!("{target}={wanted}")
            }
            // Without a level, a target is logged at every level, which a misspelled level would be taken for.
            _ => {
                let wanted = level(part).ok_or_else(|| unknown(part))?;
                format!("{LIBRARIES},{OWN}={wanted}")
            }
        });
    }
    if parts.is_empty() {
        return Err(unknown(text));
    }
    let filter = parts.join(",");
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(format!("{text:?} is not a log level or filter: {error}")),
    }
}

/// Checks a level or a filter, and returns it unchanged.
///
/// # Errors
/// As [`log_filter`].
pub fn checked_log_filter(text: &str) -> Result<String, String> {
    log_filter(text).map(|_| text.to_owned())
}

/// The level with this name, in the words of syslog, klog, Go and others.
fn level(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "off" | "none" => "off",
        "error" | "err" | "fatal" | "critical" | "crit" => "error",
        "warn" | "warning" => "warn",
        "info" | "information" | "notice" => "info",
        "debug" => "debug",
        "trace" => "trace",
        _ => return None,
    })
}

fn unknown(name: &str) -> String {
    format!(
        "{name:?} is not a log level: must be error, warn, info, debug, trace or off, or a filter such as \
         info,{OWN}::subnet=debug"
    )
}

/// The lines of libraries unless a filter names them.
const LIBRARIES: &str = "warn";

/// The target of this program's own lines.
const OWN: &str = "flannel_udp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_many_names() {
        for (text, filter) in [
            ("warning", "warn,flannel_udp=warn"),
            ("ERR", "warn,flannel_udp=error"),
            ("off", "warn,flannel_udp=off"),
            ("info,flannel_udp::subnet=debug", "warn,flannel_udp=info,flannel_udp::subnet=debug"),
            ("debug, h2=Warning", "warn,flannel_udp=debug,h2=warn"),
            ("hyper=trace", "hyper=trace"),
        ] {
            assert_eq!(log_filter(text).as_deref(), Ok(filter), "{text}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in
            ["", ",", "verbose", "5", "info,quiet", "flannel_udp=loud", "=debug", "nonsense=,="]
        {
            let error = log_filter(text).expect_err(text);
            assert!(error.contains("must be error, warn, info, debug, trace"), "{error}");
        }
    }
}

//! What a report must not have: passwords, tokens, private keys, the user part of URLs.
//!
//! A secret is recognized by its name or its form, and by its value if the daemon or this command was given it. When
//! in doubt, more is left out.

use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Takes secrets out of texts.
#[derive(Default)]
pub(super) struct Redactor {
    /// Values that are known to be secret, the longest first.
    values: Vec<String>,
}

impl Redactor {
    /// Knows the secrets of this process, of the daemon with this process ID, and of the unit's settings.
    pub(super) fn of_this_host(daemon: Option<u32>) -> Self {
        let mut texts: Vec<String> = std::env::vars_os()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        let mut files = vec![Path::new("/etc/default/flannel-udp").to_owned()];
        files.extend(daemon.iter().flat_map(|pid| {
            ["environ", "cmdline"].map(|file| format!("/proc/{pid}/{file}").into())
        }));
        for file in files {
            let bytes = std::fs::read(file).unwrap_or_default();
            texts.push(String::from_utf8_lossy(&bytes).replace('\0', "\n"));
        }
        Self::knowing(&texts.join("\n"))
    }

    /// Knows the secrets in a text of flags and variables, one per line.
    fn knowing(text: &str) -> Self {
        let mut values = Vec::new();
        let named = [&NAMED, &FLAG, &FLAG_LINE].map(|pattern| pattern.captures_iter(text));
        for found in named.into_iter().flatten() {
            values.push(found[2].trim_matches(['"', '\'', '\\', ' ', '\r']).to_owned());
        }
        for found in USERINFO.captures_iter(text) {
            let userinfo = found[2].trim_end_matches('@');
            values.push(
                userinfo.split_once(':').map_or(userinfo, |(_, password)| password).to_owned(),
            );
        }
        // Shorter ones would be found inside of words everywhere.
        values.retain(|value| value.len() >= SHORTEST && !["true", "false"].contains(&&**value));
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values }
    }

    /// The text without secrets.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(&**value) {
                text = text.replace(&**value, REMOVED);
            }
        }
        let text = PRIVATE_KEY.replace_all(&text, REMOVED);
        let text =
            USERINFO.replace_all(&text, |found: &Captures<'_>| format!("{}{REMOVED}@", &found[1]));
        let text = NAMED.replace_all(&text, without_value);
        let text = FLAG.replace_all(&text, without_value);
        let text = FLAG_LINE.replace_all(&text, without_value);
        let text = AUTHORIZATION
            .replace_all(&text, |found: &Captures<'_>| format!("{} {REMOVED}", &found[1]));
        WEB_TOKEN.replace_all(&text, REMOVED).into_owned()
    }
}

/// The name of a secret, with quotes as they were around its value.
fn without_value(found: &Captures<'_>) -> String {
    // A sentence about the flag, such as "--etcd-password is given without --etcd-username".
    if &found[2] == "is" {
        return found[0].to_owned();
    }
    let quote = found[2].chars().next().filter(|c| ['"', '\''].contains(c));
    let quote = quote.map(String::from).unwrap_or_default();
    format!("{}{quote}{REMOVED}{quote}", &found[1])
}

/// What stands in the place of a secret.
const REMOVED: &str = "(removed)";

/// Length of the shortest value that is searched for.
const SHORTEST: usize = 4;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is constant")
}

/// A private key in PEM, also one that is cut off.
static PRIVATE_KEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)",
    )
});

/// The user part of a URL, up to the last `@` of the word: a password may have any character.
static USERINFO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"([A-Za-z][A-Za-z0-9+.-]*://)([^\s"'<>]*@)"#));

/// A flag, variable, header or field whose name says that its value is secret. The value is quoted, or goes to the
/// end of the line.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)([\w.-]*(?:{SECRET_NAMES})[\w.-]*["']?[ \t]*[:=][ \t]*)({QUOTED}|[^\n]+)"#
    ))
});

/// A flag with such a name whose value is the next argument, on the same line or in a list.
static FLAG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?i)(--?[\w-]*(?:{SECRET_NAMES})[\w-]*(?:["'][ \t]*,[ \t]*|[ \t]+))({QUOTED}|[^\s"']+)"#
    ))
});

/// The same, with one argument per line.
static FLAG_LINE: LazyLock<Regex> =
    LazyLock::new(|| pattern(&format!(r"(?im)^(--?[\w-]*(?:{SECRET_NAMES})[\w-]*\n)([^\n]+)")));

const SECRET_NAMES: &str = "passw(?:or)?d|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|\
                            private[_-]?key|authorization|cookie";
const QUOTED: &str = r#""(?:[^"\\]|\\.)*"|'[^']*'"#;

/// Credentials of HTTP.
static AUTHORIZATION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"));

/// A JSON Web Token (RFC 7519).
static WEB_TOKEN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_and_form() {
        let redactor = Redactor::default();
        for text in [
            "FLANNELD_ETCD_PASSWORD=hunter2",
            "Environment=\"FLANNELD_ETCD_PASSWORD=hunter2 with more\"",
            "--etcd-password=hunter2",
            "-etcd-password hunter2",
            "--etcd-password\nhunter2\n--iface=eth0",
            "{\"auth-token\": \"hunter2\", \"other\": 1}",
            "{'secret_key':'hunter2'}",
            "[\"--etcd-password\", \"hunter2\"]",
            "http://root:hunter2@10.0.0.1:2379",
            "http://root:a/hunter2@b@10.0.0.1:2379",
            "http://10.0.0.1:1,https://hunter2@10.0.0.2:2379",
            "Authorization: Bearer hunter2hunter2",
            "curl -H 'X: Basic hunter2hunter2=='",
            "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nhunter2",
            "eyJhbGciOi.hunter2.hunter2",
        ] {
            let clean = redactor.clean(text);
            assert!(!clean.contains("hunter2") && clean.contains(REMOVED), "{text}: {clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let text = "etcd at http://10.0.0.1:2379, user flannel, --etcd-keyfile=/etc/key.pem --iface=eth0\n\
                    skipped_keys: 0\nauthentication failed: invalid user or password\nLoadCredential=\nNext=1\n\
                    set FLANNELD_ETCD_PASSWORD for the command\n\
                    \"finding\": \"--etcd-password is given without --etcd-username\"\n";
        assert_eq!(Redactor::default().clean(text), text);
        let json = "{\"password\": \"x\", \"port\": 8285}";
        assert_eq!(
            Redactor::default().clean(json),
            "{\"password\": \"(removed)\", \"port\": 8285}"
        );
    }

    #[test]
    fn a_known_value_is_removed_wherever_it_stands() {
        let redactor = Redactor::knowing(
            "PATH=/bin\nFLANNELD_ETCD_PASSWORD=correct horse\n--etcd-endpoints=http://u:s3cr3t@a:1\n",
        );
        let clean = redactor.clean("a line that quotes correct horse and s3cr3t");
        assert_eq!(clean, "a line that quotes (removed) and (removed)");
    }
}

//! Options that can never work, found before the first connection.

use super::options::EtcdOptions;
use super::tls;
use crate::subnet::store::OpenError;

/// The options with clean endpoints.
///
/// # Errors
/// The first of the [`problems`].
pub(super) fn checked(mut options: EtcdOptions) -> Result<EtcdOptions, OpenError> {
    match problems(&mut options).into_iter().next() {
        Some(problem) => Err(OpenError(problem)),
        None => Ok(options),
    }
}

/// What can never work: no endpoint, endpoints that are no addresses, half a client certificate, files that are not
/// what their flags ask for, a password without a user. Cleans the endpoints.
pub(super) fn problems(options: &mut EtcdOptions) -> Vec<String> {
    options.endpoints.retain_mut(|endpoint| {
        *endpoint = clean(endpoint).to_owned();
        !endpoint.is_empty()
    });
    let mut problems = Vec::new();
    if options.endpoints.is_empty() {
        problems.push("no etcd endpoint is given; set --etcd-endpoints".to_owned());
    }
    problems.extend(options.endpoints.iter().filter_map(|endpoint| wrong_endpoint(endpoint)));
    if options.cert_file.is_some() != options.key_file.is_some() {
        problems.push(
            "--etcd-certfile and --etcd-keyfile belong together; only one is given".to_owned(),
        );
    }
    problems.extend(tls::problems(options));
    if options.password.is_some() && options.username.is_none() {
        problems.push("--etcd-password is given without --etcd-username".to_owned());
    }
    problems
}

fn clean(endpoint: &str) -> &str {
    endpoint.trim().trim_end_matches('/')
}

/// What is wrong with one endpoint of a list, if it has another scheme than http and https, or is no host and port. An
/// empty one is left out of the list, so nothing is wrong with it.
pub fn wrong_endpoint(endpoint: &str) -> Option<String> {
    let endpoint = clean(endpoint);
    if endpoint.is_empty() {
        return None;
    }
    let rest = match endpoint.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some((scheme, _)) => {
            return Some(format!(
                "etcd endpoint {endpoint}: unknown scheme `{scheme}`; use http or https"
            ));
        }
        None => endpoint,
    };
    let bad = || {
        Some(format!(
            "etcd endpoint {endpoint} is not of the form http://host:port, such as http://10.0.0.1:2379"
        ))
    };
    let Some((host, port)) = rest.rsplit_once(':') else { return bad() };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = digits && port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    if is_port && is_host { None } else { bad() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in [
            "http://127.0.0.1:2379",
            " http://a:1/ ",
            "",
            "https://etcd.example:2379",
            "[::1]:2379",
            "a:1",
        ] {
            assert_eq!(wrong_endpoint(good), None);
        }
        for bad in [
            "bogus://x:1",
            "http://x",
            "http://x:0",
            "http://x:+2379",
            "http://x:99999",
            "http://:1",
            "x/y:1",
        ] {
            assert!(wrong_endpoint(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let refused = |change: fn(&mut EtcdOptions)| {
            let mut options = EtcdOptions::default();
            change(&mut options);
            checked(options).map(drop).unwrap_err().to_string()
        };
        assert!(refused(|o| o.endpoints = vec![" ".into()]).contains("--etcd-endpoints"));
        assert!(
            refused(|o| o.ca_file = Some("/nonexist".into()))
                .contains("--etcd-cafile: open \"/nonexist\"")
        );
        assert!(refused(|o| o.key_file = Some("/nonexist".into())).contains("--etcd-certfile"));
        let mut all = EtcdOptions {
            endpoints: vec!["http://x".into(), "y:1".into(), "bogus://z:1".into()],
            ca_file: Some("/no-ca".into()),
            cert_file: Some("/no-cert".into()),
            key_file: Some("/no-key".into()),
            password: Some(crate::subnet::Secret::new("p")),
            ..EtcdOptions::default()
        };
        let found = problems(&mut all);
        let expected = ["http://x", "bogus", "/no-ca", "/no-cert", "/no-key", "--etcd-password"];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (problem, part) in found.iter().zip(expected) {
            assert!(problem.contains(part), "{part}: {problem}");
        }
    }
}

//! Options that can never work, found before the first connection.

use super::options::EtcdOptions;
use super::tls;
use crate::subnet::store::OpenError;

/// The options with clean endpoints.
///
/// # Errors
/// No endpoint, an endpoint that is no address, half a client certificate, a file that is not what
/// its flag asks for, or a password without a user.
pub(super) fn checked(mut options: EtcdOptions) -> Result<EtcdOptions, OpenError> {
    options.endpoints.retain_mut(|endpoint| {
        *endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        !endpoint.is_empty()
    });
    if options.endpoints.is_empty() {
        return Err(OpenError("no etcd endpoint is given; set --etcd-endpoints".into()));
    }
    for endpoint in &options.endpoints {
        check_endpoint(endpoint)?;
    }
    if options.cert_file.is_some() != options.key_file.is_some() {
        return Err(OpenError(
            "--etcd-certfile and --etcd-keyfile belong together; only one is given".into(),
        ));
    }
    tls::check(&options).map_err(OpenError)?;
    if options.password.is_some() && options.username.is_none() {
        return Err(OpenError("--etcd-password is given without --etcd-username".into()));
    }
    Ok(options)
}

fn check_endpoint(endpoint: &str) -> Result<(), OpenError> {
    let rest = match endpoint.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some((scheme, _)) => {
            return Err(OpenError(format!(
                "etcd endpoint {endpoint}: unknown scheme `{scheme}`; use http or https"
            )));
        }
        None => endpoint,
    };
    let bad = || OpenError(format!("etcd endpoint {endpoint} is not of the form http://host:port"));
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = digits && port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    if is_port && is_host { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in ["http://127.0.0.1:2379", "https://etcd.example:2379", "[::1]:2379", "a:1"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
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
            assert!(check_endpoint(bad).is_err(), "{bad}");
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
    }
}

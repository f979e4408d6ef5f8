//! Options for dockerd from subnet.env, in the form of flannel's `mk-docker-opts.sh`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::route::Cidr;

/// The form of the output, by the options of `docker-opts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOptsForm {
    /// Write each option as a separate variable (`-i`).
    pub individual: bool,
    /// Write all options as one variable (`-c`). Without `-i` and `-c`, both forms are written.
    pub combined: bool,
    /// Name of the variable for all options (`-k`).
    pub combined_key: String,
    /// Omit `--ip-masq` (`-m`).
    pub omit_ip_masq: bool,
}

/// The options cannot be derived.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerOptsError {
    /// A variable is missing.
    #[error("it does not set {0}; check that the daemon is running")]
    Missing(&'static str),
    /// A variable has a value that dockerd would reject.
    #[error("Invalid value of {name}: {value}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The name for the combined options is not a valid variable name.
    #[error("`{0}` is not a valid variable name (option -k)")]
    Key(String),
}

/// Prefix of the variables for single options.
const SINGLE: &str = "DOCKER_OPT_";

/// Returns the text of dockerd's environment file.
///
/// `subnet_env` is the content of subnet.env. As in the script, `DOCKER_OPT_*` variables and the
/// combined variable are carried over from `environment` and from that file.
///
/// # Errors
/// A variable is missing or invalid.
pub fn render(
    subnet_env: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    form: &DockerOptsForm,
) -> Result<String, DockerOptsError> {
    if !is_name(&form.combined_key) {
        return Err(DockerOptsError::Key(form.combined_key.clone()));
    }
    let mut variables: BTreeMap<String, String> = environment.into_iter().collect();
    variables.extend(assignments(subnet_env));
    let get = |name: &'static str| {
        variables.get(name).filter(|v| !v.is_empty()).cloned().ok_or(DockerOptsError::Missing(name))
    };
    let (subnet, mtu) = (get("FLANNEL_SUBNET")?, get("FLANNEL_MTU")?);
    if subnet.parse::<Cidr>().is_err() {
        return Err(DockerOptsError::Invalid { name: "FLANNEL_SUBNET", value: subnet });
    }
    if mtu.parse::<u32>().is_err() {
        return Err(DockerOptsError::Invalid { name: "FLANNEL_MTU", value: mtu });
    }
    let masquerade = match variables.get("FLANNEL_IPMASQ").map_or("", String::as_str) {
        _ if form.omit_ip_masq => None,
        "" => None,
        // Exactly one of docker and the daemon must masquerade.
        "true" => Some("--ip-masq=false".to_owned()),
        "false" => Some("--ip-masq=true".to_owned()),
        value => {
            return Err(DockerOptsError::Invalid {
                name: "FLANNEL_IPMASQ",
                value: value.to_owned(),
            });
        }
    };
    let before = variables.get(&form.combined_key).filter(|v| !v.is_empty()).cloned();
    variables.retain(|name, _| name.starts_with(SINGLE));
    variables.insert("DOCKER_OPT_BIP".into(), format!("--bip={subnet}"));
    variables.insert("DOCKER_OPT_MTU".into(), format!("--mtu={mtu}"));
    if let Some(masquerade) = masquerade {
        variables.insert("DOCKER_OPT_IPMASQ".into(), masquerade);
    }
    let both = !form.individual && !form.combined;
    let mut text = String::new();
    let mut combined = before.map(|value| value + " ").unwrap_or_default();
    for (name, value) in &variables {
        if form.individual || both {
            let _ = writeln!(text, "{name}=\"{value}\"");
        }
        let _ = write!(combined, " {value}");
    }
    if form.combined || both {
        let _ = writeln!(text, "{}=\"{combined}\"", form.combined_key);
    }
    Ok(text)
}

/// Returns the bridge's subnet from subnet.env.
pub fn subnet_of(subnet_env: &str) -> Option<Cidr> {
    let (_, value) = assignments(subnet_env).filter(|(name, _)| name == "FLANNEL_SUBNET").last()?;
    value.parse().ok()
}

/// Returns the next hop of a route that leads this host's subnet to another machine: with such a
/// route, dockerd's bridge for the subnet would not work.
///
/// # Errors
/// The kernel rejects a netlink request.
pub async fn conflicting_gateway(
    subnet: Cidr,
) -> Result<Option<Ipv4Addr>, super::netlink::NetlinkError> {
    let routes = super::netlink::Netlink::connect()?.routes().await?;
    Ok(routes.iter().filter(|r| r.destination == subnet).find_map(|r| r.gateway))
}

fn assignments(text: &str) -> impl Iterator<Item = (String, String)> {
    let names = text.lines().filter_map(|line| {
        let line = line.trim();
        let name = line.strip_prefix("export ").map_or(line, str::trim_start).split('=').next()?;
        is_name(name).then(|| name.to_owned())
    });
    names.filter_map(|name| {
        let value = super::subnet_file::variable(text, &name)?;
        Some((name, value))
    })
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\n\
                              FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";
    const BIP: &str = "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\n";
    const IPMASQ: &str = "DOCKER_OPT_IPMASQ=\"--ip-masq=true\"\n";
    const MTU: &str = "DOCKER_OPT_MTU=\"--mtu=1472\"\n";
    const ALL: &str = " --bip=10.1.74.1/24 --ip-masq=true --mtu=1472";

    fn form(flags: &str, key: &str) -> DockerOptsForm {
        DockerOptsForm {
            individual: flags.contains('i'),
            combined: flags.contains('c'),
            combined_key: key.to_owned(),
            omit_ip_masq: flags.contains('m'),
        }
    }

    fn plain(env: &str, flags: &str, key: &str) -> Result<String, DockerOptsError> {
        render(env, [], &form(flags, key))
    }

    #[test]
    fn the_output_is_that_of_the_script() {
        for (flags, key, expected) in [
            ("", "DOCKER_OPTS", format!("{BIP}{IPMASQ}{MTU}DOCKER_OPTS=\"{ALL}\"\n")),
            ("i", "DOCKER_OPTS", format!("{BIP}{IPMASQ}{MTU}")),
            ("c", "DOCKER_OPTS", format!("DOCKER_OPTS=\"{ALL}\"\n")),
            ("ic", "DOCKER_OPTS", format!("{BIP}{IPMASQ}{MTU}DOCKER_OPTS=\"{ALL}\"\n")),
            ("", "CUSTOM_KEY", format!("{BIP}{IPMASQ}{MTU}CUSTOM_KEY=\"{ALL}\"\n")),
            (
                "m",
                "DOCKER_OPTS",
                format!("{BIP}{MTU}DOCKER_OPTS=\" --bip=10.1.74.1/24 --mtu=1472\"\n"),
            ),
        ] {
            assert_eq!(plain(SUBNET_ENV, flags, key).unwrap(), expected, "{flags} {key}");
        }
    }

    #[test]
    fn the_file_of_the_walkthrough() {
        let env = "FLANNEL_NETWORK=10.0.0.0/16\nFLANNEL_SUBNET=10.0.13.1/24\nFLANNEL_MTU=1472\n\
                   FLANNEL_IPMASQ=true\n";
        assert_eq!(
            plain(env, "", "DOCKER_OPTS").unwrap(),
            "DOCKER_OPT_BIP=\"--bip=10.0.13.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\n\
             DOCKER_OPT_MTU=\"--mtu=1472\"\n\
             DOCKER_OPTS=\" --bip=10.0.13.1/24 --ip-masq=false --mtu=1472\"\n"
        );
    }

    #[test]
    fn existing_variables_are_carried_over() {
        let environment = [("DOCKER_OPTS", "--debug"), ("DOCKER_OPT_A", "--a"), ("HOME", "/")];
        let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(
            render(SUBNET_ENV, environment, &form("c", "DOCKER_OPTS")).unwrap(),
            "DOCKER_OPTS=\"--debug  --a --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n"
        );
    }

    #[test]
    fn no_options_without_a_subnet() {
        for (env, expected) in [
            ("", DockerOptsError::Missing("FLANNEL_SUBNET")),
            ("FLANNEL_SUBNET=10.1.74.1/24\n", DockerOptsError::Missing("FLANNEL_MTU")),
            (
                "FLANNEL_SUBNET=x\nFLANNEL_MTU=1\n",
                DockerOptsError::Invalid { name: "FLANNEL_SUBNET", value: "x".into() },
            ),
            (
                "FLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=maybe\n",
                DockerOptsError::Invalid { name: "FLANNEL_IPMASQ", value: "maybe".into() },
            ),
        ] {
            assert_eq!(plain(env, "", "DOCKER_OPTS"), Err(expected), "{env:?}");
        }
        assert!(plain(SUBNET_ENV, "", "A B").is_err());
        assert!(plain(SUBNET_ENV, "", "").is_err());
        // Without the variable the script omits the option.
        let without = SUBNET_ENV.replace("FLANNEL_IPMASQ=false\n", "");
        assert_eq!(plain(&without, "i", "DOCKER_OPTS").unwrap(), format!("{BIP}{MTU}"));
    }
}

//! The keys of one network in etcd, in stock flannel's layout.

/// The keys of one network.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The cleaned prefix.
    pub(super) prefix: String,
    /// Key of the network config.
    pub(super) config: String,
    /// Prefix of all leases' keys. It ends with a slash, which excludes keys beside the directory.
    pub(super) subnets: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = clean(prefix);
        let config = clean(&format!("{prefix}/config"));
        let subnets = clean(&format!("{prefix}/subnets")) + "/";
        Self { prefix, config, subnets }
    }
}

impl Keys {
    /// The key of the config, quoted, and what is unusual about it.
    pub(super) fn describe_config(&self) -> String {
        let key = &self.config;
        let odd = |c: char| c.is_control() || c.is_whitespace();
        match (key.contains(odd), key.starts_with('/')) {
            (true, _) => format!("{key:?}, which contains a space or an invisible character"),
            (false, false) => format!("{key:?}, which has no leading slash"),
            (false, true) => format!("{key:?}"),
        }
    }
}

/// Go's `path.Clean`, which flannel's `path.Join` applies: a missing leading slash stays missing.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_keys_are_named() {
        for (prefix, words) in [
            ("/coreos.com/network", "\"/coreos.com/network/config\""),
            ("coreos.com/network", "\"coreos.com/network/config\", which has no leading slash"),
            (
                "/coreos.com/network\r",
                "\"/coreos.com/network\\r/config\", which contains a space or",
            ),
        ] {
            let text = Keys::new(prefix).describe_config();
            assert!(text.starts_with(words), "{text}");
        }
    }

    #[test]
    fn keys_are_joined_as_flannel_joins_them() {
        for (prefix, config, subnets) in [
            ("/coreos.com/network", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
            ("/coreos.com/network//", "/coreos.com/network/config", "/coreos.com/network/subnets/"),
            ("/a/./b/../c", "/a/c/config", "/a/c/subnets/"),
            ("plain", "plain/config", "plain/subnets/"),
            ("/", "/config", "/subnets/"),
            ("/a(b", "/a(b/config", "/a(b/subnets/"),
        ] {
            let keys = Keys::new(prefix);
            assert_eq!((keys.config.as_str(), keys.subnets.as_str()), (config, subnets));
        }
    }
}

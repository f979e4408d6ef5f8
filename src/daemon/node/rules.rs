//! The firewall rules of a node, kept in force by a task of their own.

use std::net::SocketAddrV4;

use super::Node;
use crate::daemon::Options;
use crate::exit::{Code, Exit};
use crate::host::firewall::{Firewall, PortSpec, RuleSpec, Toolbox};
use crate::host::subnet_file::PreviousSubnetFile;
use crate::observe::warnings::{Condition, WarningKind};
use crate::route::Cidr;
use crate::subnet::NetworkConfig;

/// The rules that the options and the network config ask for. Names of interfaces are added once they are known.
pub(super) fn initial(options: &Options, config: &NetworkConfig, subnet: Cidr) -> RuleSpec {
    RuleSpec {
        network: config.network,
        subnet,
        masquerade: options.ip_masq,
        forward: options.iptables_forward_rules,
        port: options.protect_port.then(|| PortSpec::new(config.port)),
        notrack: None,
        fully_random: !options.ip_masq_fully_random_disable,
        nftables: config.enable_nftables,
    }
}

impl Node<'_> {
    /// Installs the rules, and starts the task that checks them.
    ///
    /// # Errors
    /// Rules for masquerading are wanted and cannot be installed.
    pub(super) async fn install_rules(&self, previous: &PreviousSubnetFile) -> Result<(), Exit> {
        self.update_rules();
        let rules = self.rules.borrow().clone();
        let firewall = Firewall::install(rules, previous, Toolbox::from_environment())
            .await
            .map_err(|error| Exit::new(Code::Unavailable, error.to_string()))?;
        let warnings = self.warnings.clone();
        let report = move |problems: Vec<String>| {
            let remedy = "`flannel-udp doctor` evaluates the installed rules";
            let condition = |text| Condition { text, remedy: Some(remedy.into()) };
            warnings.set(WarningKind::Firewall, problems.into_iter().map(condition).collect());
        };
        tokio::spawn(firewall.run(self.options.resync_period(), self.rules.subscribe(), report));
        Ok(())
    }

    /// Has the rules follow the node's subnet, device and interface.
    pub(super) fn update_rules(&self) {
        self.rules.send_if_modified(|rules| {
            let before = rules.clone();
            rules.subnet = self.subnet;
            let socket = SocketAddrV4::new(self.interface.address, self.port);
            rules.notrack = self.options.notrack.then_some(socket);
            if let Some(port) = &mut rules.port {
                port.device.clone_from(&self.tun_name);
                port.underlay.clone_from(&self.interface.name);
            }
            *rules != before
        });
    }
}

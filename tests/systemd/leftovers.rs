//! What a machine holds of the package: compared before the installation and after the purge.

use crate::machine::Machine;

/// Files, users, units, firewall rules and links of a machine.
pub(crate) struct Contents(Vec<String>);

impl Contents {
    pub(crate) fn of(machine: &Machine) -> Self {
        Self(machine.run(LIST).lines().map(str::to_owned).collect())
    }

    /// Panics with what is there in `self` and not in `before`, or the other way round.
    #[track_caller]
    pub(crate) fn same_as(&self, before: &Self) {
        let only = |here: &Self, there: &Self| -> Vec<String> {
            here.0.iter().filter(|line| !there.0.contains(line)).cloned().collect()
        };
        let (left, gone) = (only(self, before), only(before, self));
        assert!(left.is_empty() && gone.is_empty(), "left behind: {left:#?}\nmissing: {gone:#?}");
    }
}

/// Without what apt, systemd and the tools write for themselves: caches, logs, locks, the state of units.
/// Listing a table of legacy iptables creates it, so the kernel's list of tables comes last.
const LIST: &str = r#"
find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /var/tmp -o -path /var/cache -o -path /var/log \
    -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/etcd -o -path /var/lib/systemd \) -prune -o -print
find /run \( -path /run/systemd -o -path /run/log -o -path /run/lock -o -path /run/host -o -path /run/credentials \
    -o -path /run/user -o -name xtables.lock \) -prune -o -print
ls /run/systemd/system /run/systemd/units 2>/dev/null | grep flannel
ls -d /run/private/* /var/lib/private/* /var/cache/private/* 2>/dev/null
find /var/lib/systemd /etc/systemd /var/lib/dpkg/info /var/lib/dpkg/alternatives -name '*flannel*' -o -name '*docker*'
dpkg-query --show --showformat '${Package} ${db:Status-Status}\n'
cut -d: -f1 /etc/passwd
ip -oneline link | cut -d: -f2
ip -4 route show table all
echo "legacy tables: $(cat /proc/net/ip_tables_names)"
iptables-nft-save 2>/dev/null | grep -i flannel
nft list ruleset 2>/dev/null | grep -i flannel
true
"#;

//! What goes through systemd while the daemon runs: `systemctl reload`, the journal.

use super::{MAIN_PID, SOON, Site};

impl Site {
    /// A reload restores the log level, and does not end the daemon. It is refused while the settings are wrong, and
    /// says what is.
    pub(super) fn is_reloaded_in_place(&self) {
        let machine = &self.machines[1];
        let before = machine.run(MAIN_PID);
        machine.run("flannel-udp log-level debug && systemctl reload flannel-udp");
        machine.until("flannel-udp log-level | grep info", SOON);
        let settings = machine.run("cat /etc/default/flannel-udp");
        machine.run(
            "printf 'FLANNELD_WORKERS=many\\nFLANNELD_SPIN=fast\\n' >>/etc/default/flannel-udp",
        );
        let (_, reloaded) = machine.say("systemctl reload flannel-udp");
        assert!(!reloaded, "a reload with wrong settings");
        for wrong in ["FLANNELD_WORKERS", "FLANNELD_SPIN", "2 errors"] {
            machine.until(&format!("journalctl --no-pager -u flannel-udp | grep '{wrong}'"), SOON);
        }
        machine.write("/etc/default/flannel-udp", &settings);
        machine.run("systemctl reload flannel-udp");
        assert_eq!(machine.run(MAIN_PID), before);
        self.packets_cross();
    }

    /// The journal has the daemon's warnings as warnings, the time once, and fields to search by.
    pub(super) fn logs_to_the_journal(&self) {
        let machine = &self.machines[1];
        machine.run("ip link del flannel0");
        let warnings = "journalctl --no-pager --output=cat --priority=warning -u flannel-udp";
        machine.until(&format!("{warnings} | grep '^ WARN the TUN device was deleted'"), SOON);
        let said = machine.run(warnings);
        assert!(!said.contains(" INFO ") && !said.contains("<4>"), "{said}");
        let peer = self.lab.host(0).address();
        let found = machine.run(&format!(
            "journalctl --no-pager --output=cat -u flannel-udp FLANNEL_PEER={peer} FLANNEL_KIND=route"
        ));
        assert!(found.contains(&format!("via {peer}")), "{found}");
        self.packets_cross();
    }
}

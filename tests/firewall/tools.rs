//! Firewall tools that are older or poorer than expected.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{Bench, FILTER, NAT, each_flavour, owned, protected, second, skipped, spec};

/// A program that refuses options as an older version does, in the place of the real one.
fn refuse(bench: &Bench, name: &str, options: &[(&str, &str)]) {
    let real = std::fs::read_link(bench.tool(name)).unwrap();
    let mut script = "#!/bin/sh\n".to_owned();
    for (option, says) in options {
        script += &format!(
            "for word; do case $word in {option}) echo \"{says}\" >&2; exit 2;; esac; done\n"
        );
    }
    script += &format!("exec {} \"$@\"\n", real.display());
    std::fs::remove_file(bench.tool(name)).unwrap();
    std::fs::write(bench.tool(name), script).unwrap();
    std::fs::set_permissions(bench.tool(name), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn options_that_older_tools_lack_are_given_up() {
    each_flavour(|bench| {
        // iptables 1.4.7: no -w, no -C, no --random-fully; let alone one without -S.
        let refused = |option: &str| format!("iptables v1.4.7: Unknown arg \\`{option}'");
        refuse(&bench, "iptables-restore", &[("-w", "iptables-restore: invalid option -- 'w'")]);
        refuse(&bench, "iptables", &[("-w", &refused("-w")), ("-C", &refused("-C"))]);
        let firewall = bench.install(spec());
        assert_eq!((bench.rules("nat"), bench.rules("filter")), (owned(NAT), owned(FILTER)));
        bench.run("iptables", &["-t", "nat", "-F", "FLANNEL-POSTRTG"]);
        let (repaired, firewall) = bench.check(firewall);
        assert!(repaired);
        let (again, _) = bench.check(firewall);
        assert!(!again);
        bench.cleanup(false);
        std::fs::remove_file(bench.tool("iptables")).unwrap();
        let flavour = std::fs::read_link(bench.tool("iptables-save")).unwrap();
        let flavour = flavour.to_str().unwrap().trim_end_matches("-save").to_owned();
        symlink(flavour, bench.tool("iptables")).unwrap();
        refuse(&bench, "iptables", &[("-w", &refused("-w")), ("-S", &refused("-S"))]);
        bench.install(spec());
        assert_eq!((bench.rules("nat"), bench.rules("filter")), (owned(NAT), owned(FILTER)));
    });
}

#[test]
fn random_ports_are_given_up_where_the_target_does_not_know_them() {
    each_flavour(|bench| {
        let real = std::fs::read_link(bench.tool("iptables-restore")).unwrap();
        let script = format!(
            "#!/bin/sh\ntext=$(cat)\ncase $text in *--random-fully*)\n\
             echo 'iptables-restore v1.4.21: unknown option \"--random-fully\"' >&2; exit 2;; esac\n\
             echo \"$text\" | exec {} \"$@\"\n",
            real.display()
        );
        std::fs::remove_file(bench.tool("iptables-restore")).unwrap();
        std::fs::write(bench.tool("iptables-restore"), script).unwrap();
        std::fs::set_permissions(bench.tool("iptables-restore"), PermissionsExt::from_mode(0o755))
            .unwrap();
        bench.install(spec());
        let expected: Vec<_> = NAT.iter().map(|rule| rule.replace(" --random-fully", "")).collect();
        assert_eq!(bench.rules("nat"), expected);
    });
}

/// The tool lacks the extension of another program's rule, as an image older than its host does.
#[test]
fn rules_that_this_tool_cannot_read_do_not_matter() {
    let library = ["/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib/aarch64-linux-gnu/xtables"];
    let library = library.into_iter().map(Path::new).find(|path| path.exists());
    let Some(library) = library else { return skipped("no directory of xtables extensions") };
    each_flavour(|bench| {
        for (table, chain) in [("nat", "POSTROUTING"), ("nat", "OTHER"), ("mangle", "INPUT")] {
            if chain == "OTHER" {
                bench.run("iptables", &["-t", table, "-N", chain]);
            }
            let rule = ["-m", "statistic", "--mode", "random", "--probability", "0.5"];
            bench.run(
                "iptables",
                &[&["-t", table, "-A", chain], &rule[..], &["-j", "RETURN"]].concat(),
            );
        }
        let extensions = bench.tool("extensions");
        std::fs::create_dir(&extensions).unwrap();
        for entry in std::fs::read_dir(library).unwrap().map(Result::unwrap) {
            if !entry.file_name().to_string_lossy().contains("statistic") {
                let link = extensions.join(entry.file_name());
                symlink(entry.path(), link).unwrap();
            }
        }
        for name in ["iptables", "iptables-save", "iptables-restore"] {
            let real = std::fs::read_link(bench.tool(name)).unwrap();
            let script = format!(
                "#!/bin/sh\nexport XTABLES_LIBDIR={}\nexec {} \"$@\"\n",
                extensions.display(),
                real.display()
            );
            std::fs::remove_file(bench.tool(name)).unwrap();
            std::fs::write(bench.tool(name), script).unwrap();
            let mode = PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(bench.tool(name), mode).unwrap();
        }
        assert!(!bench.works_with("iptables-save", &["-t", "nat"]), "the rule can be read");
        let mut firewall = bench.install(protected(spec(), 8285));
        assert_eq!(firewall.problems(), Vec::<String>::new());
        bench.install(protected(second(), 8286));
        for _ in 0..2 {
            let (repaired, same) = bench.check(firewall);
            assert!(!repaired);
            firewall = same;
        }
        bench.run("iptables", &["-t", "nat", "-F", "FLANNEL-POSTRTG"]);
        let (repaired, firewall) = bench.check(firewall);
        assert!(repaired);
        let (again, _) = bench.check(firewall);
        assert!(!again);
        let listed = bench.run("iptables", &["-t", "nat", "-S", "FLANNEL-POSTRTG"]);
        assert_eq!(listed.lines().count(), NAT.len(), "{listed}");
    });
}

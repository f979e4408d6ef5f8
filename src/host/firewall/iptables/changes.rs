//! What has to be changed in a chain, as text for `iptables-restore` or as commands.

use std::fmt::Write as _;

use super::super::ownership::{Owned, is_shared};
use super::super::rules::FlannelChain;

/// What a chain and its hooks hold; rules without `-A`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainState {
    /// `None` if there is no such chain.
    pub(super) rules: Option<Vec<String>>,
    /// The jumps that are wanted.
    pub(super) jumps: Vec<(String, Jump)>,
    /// Other jumps to the chain that are this daemon's, or that every daemon shared in an earlier version.
    pub(super) earlier: Vec<String>,
}

/// The jump from a hook to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    Absent,
    Present,
    /// It exists, but cannot be moved or removed: the tool cannot read another program's rule in that hook.
    Fixed,
}

/// Returns the input of `iptables-restore --noflush` that replaces the owned rules of a chain and moves the jumps
/// to it to the end of their built-in chains, where flannel places the jump. A chain that exists is not declared,
/// since that would empty it (iptables-restore(8)).
pub(super) fn transaction(
    chain: &FlannelChain,
    wanted: &[String],
    state: &ChainState,
    owned: Owned<'_>,
) -> String {
    let mut text = format!("*{}\n", chain.table);
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let existing = state.rules.as_deref().unwrap_or_default();
    if state.rules.is_none() {
        line(format!(":{} - [0:0]", chain.name));
    }
    for jump in &state.earlier {
        line(format!("-D {jump}"));
    }
    for (jump, now) in &state.jumps {
        if *now == Jump::Present {
            line(format!("-D {jump}"));
        }
        if *now != Jump::Fixed {
            line(format!("-A {jump}"));
        }
    }
    for rule in existing.iter().filter(|rule| owned.owns(rule)) {
        line(format!("-D {rule}"));
    }
    let has_shared = existing.iter().any(|rule| chain.has_comment(rule) && is_shared(rule));
    for rule in wanted {
        match rule.split_once(' ') {
            // A rule for every daemon stands before all of theirs.
            Some((name, body)) if is_shared(rule) => {
                if !has_shared {
                    line(format!("-I {name} 1 {body}"));
                }
            }
            _ => line(format!("-A {rule}")),
        }
    }
    text.push_str("COMMIT\n");
    text
}

/// Returns the commands that remove the owned rules and jumps, and whether the chain is of no use afterwards. The
/// shared rules and jumps go with the last rule of flannel.
pub(super) fn removal(
    chain: &FlannelChain,
    state: &ChainState,
    owned: Owned<'_>,
) -> (Vec<String>, bool) {
    let Some(rules) = &state.rules else { return (vec![], false) };
    let of_flannel = |rule: &&String| chain.has_comment(rule);
    let (goes, stays): (Vec<&String>, Vec<&String>) =
        rules.iter().filter(of_flannel).partition(|rule| !is_shared(rule) && owned.owns(rule));
    let unused = stays.iter().all(|rule| is_shared(rule));
    let with_last = |rule: &&String| unused || !is_shared(rule);
    let present = state.jumps.iter().filter(|(_, now)| *now == Jump::Present);
    let jumps = present.map(|(jump, _)| jump).chain(&state.earlier);
    let rules = goes.into_iter().chain(stays.into_iter().filter(|_| unused));
    let commands = rules.chain(jumps.filter(with_last)).map(|rule| format!("-D {rule}")).collect();
    (commands, unused)
}

#[cfg(test)]
mod tests {
    use super::super::super::rules::{FORWARD, MASQ, PORT};
    use super::*;
    use crate::route::Cidr;

    const OURS: &str =
        "FLANNEL-POSTRTG -s 10.0.7.0/24 -m comment --comment \"flanneld masq\" -j RETURN";
    const THEIRS: &str =
        "FLANNEL-POSTRTG -s 10.9.0.0/16 -m comment --comment \"flanneld masq\" -j MASQUERADE";
    const SHARED: &str = "FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN";

    fn state(rules: &[&str], jump: Jump) -> ChainState {
        let rules = Some(rules.iter().map(|rule| (*rule).to_owned()).collect());
        ChainState { rules, jumps: vec![(masq_jump(), jump)], earlier: vec![] }
    }

    fn masq_jump() -> String {
        MASQ.shared_jumps().remove(0)
    }

    fn networks() -> Vec<Cidr> {
        vec!["10.0.7.0/24".parse().unwrap()]
    }

    #[test]
    fn removal_leaves_the_rules_of_other_programs() {
        let owned = networks();
        let remove = |rules: &[&str], jump, owned| removal(&MASQ, &state(rules, jump), owned);
        let (commands, unused) = remove(&[SHARED, OURS], Jump::Present, Owned::Networks(&owned));
        assert_eq!(commands[..2], [format!("-D {OURS}"), format!("-D {SHARED}")]);
        assert!(commands[2].starts_with("-D POSTROUTING") && unused);
        // Another daemon's rules need the shared one, the jump and the chain.
        let all = [SHARED, THEIRS, OURS];
        let (commands, unused) = remove(&all, Jump::Present, Owned::Networks(&owned));
        assert_eq!((commands, unused), (vec![format!("-D {OURS}")], false));
        assert_eq!(remove(&all, Jump::Fixed, Owned::All).0.len(), 3);
        let nothing = ChainState::default();
        assert_eq!(removal(&FORWARD, &nothing, Owned::All), (vec![], false));
        // A rule that is not flannel's.
        let foreign = ["FLANNEL-POSTRTG -s 10.0.7.0/24 -p tcp -j ACCEPT"];
        assert_eq!(remove(&foreign, Jump::Absent, Owned::All), (vec![], true));
    }

    #[test]
    fn only_owned_rules_are_replaced_and_a_shared_one_stands_first() {
        let owned = networks();
        let wanted = [SHARED.to_owned(), OURS.to_owned()];
        let text = |rules: &[&str], jump| {
            transaction(&MASQ, &wanted, &state(rules, jump), Owned::Networks(&owned))
        };
        let jump = masq_jump();
        assert_eq!(
            text(&[SHARED, OURS, THEIRS], Jump::Present),
            format!("*nat\n-D {jump}\n-A {jump}\n-D {OURS}\n-A {OURS}\nCOMMIT\n")
        );
        let (name, body) = SHARED.split_once(' ').unwrap();
        assert_eq!(
            text(&[THEIRS], Jump::Fixed),
            format!("*nat\n-I {name} 1 {body}\n-A {OURS}\nCOMMIT\n")
        );
        let fresh = ChainState { rules: None, ..state(&[], Jump::Absent) };
        let text = transaction(&MASQ, &wanted, &fresh, Owned::Networks(&owned));
        assert!(text.starts_with("*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING"), "{text}");
    }

    #[test]
    fn jumps_go_with_their_network_and_shared_ones_with_the_last() {
        let owned = networks();
        let rule = |start: &str, network: &str, target: &str| {
            format!("{start} -p udp -m comment --comment \"flannel-udp port{network}\" -j {target}")
        };
        let jump = |network| rule("INPUT", network, PORT.name);
        let [ours, theirs] = [" 10.0.7.0/24", " 10.9.0.0/16"];
        let mut state = ChainState {
            rules: Some([ours, theirs].map(|of| rule(PORT.name, of, "DROP")).into()),
            jumps: vec![],
            earlier: vec![jump(""), jump(ours)],
        };
        let (commands, unused) = removal(&PORT, &state, Owned::Networks(&owned));
        let gone = [rule(PORT.name, ours, "DROP"), jump(ours)].map(|rule| format!("-D {rule}"));
        assert_eq!((commands, unused), (gone.into(), false));
        state.rules.as_mut().unwrap().pop();
        let (commands, unused) = removal(&PORT, &state, Owned::Networks(&owned));
        assert_eq!((commands.len(), unused), (3, true), "{commands:?}");
        state.jumps = vec![(jump(" new"), Jump::Absent)];
        let text = transaction(&PORT, &[], &state, Owned::Networks(&owned));
        let begin = format!("*mangle\n-D {}\n-D {}\n-A {}\n", jump(""), jump(ours), jump(" new"));
        assert!(text.starts_with(&begin), "{text}");
    }
}

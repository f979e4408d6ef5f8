//! The manual covers the command line, and every page has the sections that a reader looks for.

use std::collections::BTreeMap;

use super::*;

fn pages() -> BTreeMap<String, String> {
    manual().unwrap().into_iter().collect()
}

/// Calls `visit` with every command that users see and the name of its page, without the section.
fn commands(command: &clap::Command, name: &str, visit: &mut impl FnMut(&clap::Command, &str)) {
    visit(command, name);
    for tool in command.get_subcommands().filter(|tool| !tool.is_hide_set()) {
        commands(tool, &format!("{name}-{}", tool.get_name()), visit);
    }
}

#[test]
fn every_command_has_a_page_with_its_flags_and_no_others() {
    let mut pages = pages();
    commands(&built(), "flannel-udp", &mut |command, name| {
        let page =
            pages.remove(&format!("{name}.8")).unwrap_or_else(|| panic!("no page for {name}"));
        let options = page.split(".SH OPTIONS").nth(1).unwrap().split("\n.SH ").next().unwrap();
        // What stands first below `.TP` is a flag or an argument.
        let terms = options.split(".TP\n").skip(1).map(|item| item.lines().next().unwrap());
        let listed: Vec<_> = terms
            .filter_map(|term| term.split("\\fB\\-\\-").nth(1))
            .map(|rest| rest.split("\\fR").next().unwrap().replace('\\', ""))
            .filter(|flag| !["help", "version"].contains(&&**flag))
            .collect();
        let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let flags: Vec<_> = flags
            .filter_map(clap::Arg::get_long)
            .filter(|flag| !["help", "version"].contains(flag))
            .collect();
        assert_eq!(sorted(listed), sorted(flags), "{name}");
    });
    assert!(pages.is_empty(), "pages of no command: {:?}", pages.keys());
}

fn sorted(words: Vec<impl Into<String>>) -> Vec<String> {
    let mut words: Vec<String> = words.into_iter().map(Into::into).collect();
    words.sort();
    words
}

#[test]
fn every_page_has_its_sections_in_their_order() {
    for (name, page) in pages() {
        let headings = page.lines().filter_map(|line| line.strip_prefix(".SH "));
        let headings: Vec<_> = headings.map(|heading| heading.trim_matches('"')).collect();
        let mut rest = tidy::SECTIONS.iter();
        for heading in &headings {
            assert!(rest.any(|known| known == heading), "{name}: {heading} in {headings:?}");
        }
        for needed in ["SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            assert!(headings.contains(&needed), "{name} has no {needed}");
        }
        let reads_variables = page.contains("environment variable");
        assert!(!reads_variables || headings.contains(&"ENVIRONMENT"), "{name} has no ENVIRONMENT");
        assert!(!page.contains('`'), "{name} has code that is not bold");
    }
}

#[test]
fn pages_refer_to_pages_that_exist() {
    let pages = pages();
    for (name, page) in &pages {
        let see = page.split(".SH \"SEE ALSO\"\n").nth(1).unwrap().lines().next().unwrap();
        for reference in see.split(", ").filter(|text| text.contains("flannel")) {
            let reference = reference.replace("\\fB", "").replace("\\fR", "").replace('\\', "");
            let file = reference.replace('(', ".").replace(')', "");
            assert!(pages.contains_key(&file) && file != *name, "{name} refers to {reference}");
        }
    }
}

#[test]
fn the_date_is_that_of_the_release() {
    let page = &pages()["flannel-udp.8"];
    let title = page.lines().find(|line| line.starts_with(".TH")).unwrap();
    let date = title.split_whitespace().nth(3).unwrap();
    assert!(date.len() == 10 && date.starts_with("20"), "{title}");
}

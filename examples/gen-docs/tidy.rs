//! From what clap_mangen renders to a page that man-pages(7) and mandoc agree with.

/// Puts right what clap_mangen renders against man-pages(7) and mandoc: groups of flags are subsections, code is
/// bold, and no space stands twice.
pub(crate) fn tidied(page: &str) -> String {
    let mut preambles = 0;
    let mut out = String::new();
    for line in page.replace(".br\n\n.br\n", ".sp\n").lines() {
        let line = line.trim_end();
        // Each part has the definition of an apostrophe in front.
        if line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq") {
            preambles += 1;
            if preambles > 2 {
                continue;
            }
        }
        out += &match line.strip_prefix(".SH ") {
            Some(heading) if !SECTIONS.contains(&heading.trim_matches('"')) => {
                format!(".SS {}", in_sentence_case(heading))
            }
            _ if line.matches('`').count() % 2 == 0 => with_bold_code(line),
            _ => line.to_owned(),
        };
        out.push('\n');
    }
    out
}

/// The sections of a page; what clap_mangen makes of a group of flags is none.
pub(crate) const SECTIONS: [&str; 12] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "COMMANDS",
    "NOTES",
    "EXIT STATUS",
    "ENVIRONMENT",
    "SIGNALS",
    "FILES",
    "EXAMPLES",
    "SEE ALSO",
];

/// `"LEASE STORE"` is `"Lease store"`.
fn in_sentence_case(heading: &str) -> String {
    let mut letters = heading.trim_matches('"').chars();
    let first: String = letters.next().into_iter().collect();
    format!("\"{first}{}\"", letters.as_str().to_lowercase())
}

/// What stands between backquotes is bold.
fn with_bold_code(line: &str) -> String {
    let mut out = String::new();
    for (number, part) in line.split('`').enumerate() {
        out += if number == 0 {
            ""
        } else if number % 2 == 1 {
            "\\fB"
        } else {
            "\\fR"
        };
        out += part;
    }
    out
}

//! Tables on standard output: aligned columns, wrapped to the width of the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// How the cells of a column are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Aligned to the left and never broken, such as an address.
    Key,
    /// Aligned to the right and never broken, such as a number.
    Number,
    /// Aligned to the left and wrapped between words where the terminal is too narrow.
    Text,
}

/// Makes a table without rows. A table that is not printed to a terminal is never wrapped.
pub(super) fn new<'a>(columns: impl IntoIterator<Item = (&'a str, Layout)>) -> Table {
    let (titles, layouts): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(titles);
    for (column, layout) in table.column_iter_mut().zip(layouts) {
        column.set_padding((0, SPACING));
        match layout {
            Layout::Key => {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            Layout::Number => {
                column.set_constraint(ColumnConstraint::ContentWidth);
                column.set_cell_alignment(CellAlignment::Right);
            }
            Layout::Text => {}
        }
    }
    table
}

/// Makes a table of the first of several `sets` of columns, by index, that fits the width; the last set, if none does.
/// Without a width, the output is no terminal, and has the first.
pub(super) fn fitting(
    columns: &[(&str, Layout)],
    rows: &[Vec<String>],
    sets: &[&[usize]],
    width: Option<usize>,
) -> Table {
    let needed = |at: usize| {
        let (title, layout) = columns[at];
        let cells = rows.iter().map(|row| row[at].as_str()).chain([title]);
        match layout {
            Layout::Text => cells.flat_map(str::split_whitespace).map(text_width).max(),
            Layout::Key | Layout::Number => cells.map(text_width).max(),
        }
        .unwrap_or_default()
    };
    let fits = |set: &&&[usize]| {
        let all: usize = set.iter().map(|at| needed(*at) + usize::from(SPACING)).sum();
        width.is_none_or(|width| all <= width)
    };
    let set = sets.iter().find(fits).or(sets.last()).copied().unwrap_or_default();
    let mut table = new(set.iter().map(|at| columns[*at]));
    for row in rows {
        table.add_row(set.iter().map(|at| &row[*at]));
    }
    table
}

fn text_width(text: &str) -> usize {
    text.chars().count()
}

/// Makes every row one line: what does not fit the terminal is cut off.
pub(super) fn one_line_per_row(table: &mut Table) {
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
}

/// The lines of a table, each with its line end and without trailing blanks.
pub(super) fn text(table: &Table) -> String {
    table.trim_fmt() + "\n"
}

/// Blanks between two columns.
const SPACING: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table =
            new([("SUBNET", Layout::Key), ("OUT", Layout::Number), ("STATE", Layout::Text)]);
        table.add_row(["10.0.8.0/24", "1.5 Mbit/s", "SILENT: packets are sent"]);
        table.add_row(["10.0.10.0/24", "0", "idle"]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = "\
SUBNET               OUT  STATE
10.0.8.0/24   1.5 Mbit/s  SILENT: packets are sent
10.0.10.0/24           0  idle
";
        assert_eq!(text(&table()), expected);
    }

    #[test]
    fn columns_are_left_out_where_they_do_not_fit() {
        let columns = [("HOST", Layout::Key), ("OUT", Layout::Number), ("STATE", Layout::Text)];
        let rows = [vec!["10.0.0.2".into(), "1.5 Mbit/s".into(), "idle for long".into()]];
        let sets: [&[usize]; 2] = [&[0, 1, 2], &[0, 2]];
        let heading = |width| {
            let mut table = fitting(&columns, &rows, &sets, width);
            table.set_width(80);
            text(&table).lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(heading(None), "HOST             OUT  STATE");
        assert_eq!(heading(Some(29)), "HOST             OUT  STATE");
        assert_eq!(heading(Some(28)), "HOST      STATE");
        assert_eq!(heading(Some(5)), "HOST      STATE");
    }

    #[test]
    fn text_is_wrapped_and_keys_are_not() {
        let mut table = table();
        table.set_width(40);
        let text = text(&table);
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.contains("10.0.10.0/24") && text.contains("SILENT:"), "{text}");
    }
}

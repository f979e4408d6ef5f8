//! Tables on standard output: aligned columns, wrapped to the width of the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// How the cells of a column are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Layout {
    /// Aligned to the left and never broken, such as an address.
    Key,
    /// Aligned to the right, such as a number.
    Number,
    /// Aligned to the left and wrapped between words where the terminal is too narrow.
    Text,
}

/// Makes a table without rows. A table that is not printed to a terminal is never wrapped.
pub(super) fn new<const N: usize>(columns: [(&str, Layout); N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(columns.map(|(title, _)| title));
    for (column, (_, layout)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, SPACING));
        match layout {
            Layout::Key => {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            Layout::Number => column.set_cell_alignment(CellAlignment::Right),
            Layout::Text => {}
        }
    }
    table
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
    fn text_is_wrapped_and_keys_are_not() {
        let mut table = table();
        table.set_width(40);
        let text = text(&table);
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.contains("10.0.10.0/24") && text.contains("SILENT:"), "{text}");
    }
}

//! Tables as kubectl prints them: left aligned, columns three spaces apart.

/// How what is a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    #[default]
    Table,
    Json,
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this header.
    pub(super) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self::with_header(header.map(str::to_owned).to_vec())
    }

    /// The same for a header that is put together.
    pub(super) fn with_header(header: Vec<String>) -> Self {
        Self { rows: vec![header] }
    }

    /// Adds a row. Empty cells are shown as they are.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "READY"]);
        table.row(vec!["reviews-v1".into(), "yes".into()]);
        table.row(vec!["ä".into(), String::new()]);
        assert_eq!(table.text(), "NAME         READY\nreviews-v1   yes\nä\n");
    }
}

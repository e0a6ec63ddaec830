//! Tables and colours for a terminal.

use std::io::{self, IsTerminal as _};

use comfy_table::{Cell, CellAlignment, Table, presets};

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    has_colour: bool,
}

impl Style {
    /// Uses colours on a terminal, unless NO_COLOR is set.
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colour: io::stdout().is_terminal() && !unwanted,
        }
    }

    /// Uses no colours.
    pub fn plain() -> Self {
        Self { has_colour: false }
    }

    #[cfg(test)]
    pub fn coloured() -> Self {
        Self { has_colour: true }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.has_colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Joins the parts that are not empty, with a blank line between two.
pub fn join(parts: &[String]) -> String {
    let parts = parts.iter().map(|part| part.trim_end());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    format!("\n{}\n", parts.join("\n\n"))
}

/// Makes a table with this header.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(cells(headers.iter().map(|header| (*header).to_owned())));
    table
}

/// Adds a row: the first column to the left, numbers to the right.
pub fn add_row(table: &mut Table, row: Vec<String>) {
    table.add_row(cells(row.into_iter()));
}

fn cells(row: impl Iterator<Item = String>) -> Vec<Cell> {
    let cells = row.enumerate().map(|(column, text)| {
        Cell::new(text).set_alignment(if column == 0 {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        })
    });
    cells.collect()
}

/// Renders a table. Lines are painted, not cells: the codes would count as their width.
pub fn render(table: &Table, style: Style) -> String {
    let lines = table.lines().enumerate().map(|(at, line)| {
        let line = format!(" {}", line.trim_end());
        if at == 0 { style.dim(&line) } else { line }
    });
    lines.collect::<Vec<String>>().join("\n")
}

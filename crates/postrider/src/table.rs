//! Aligned tables for people.

use crate::diagram::text::{harmless, width};

/// The rows with columns aligned, two spaces apart; the first row is the heading. Cells are made
/// harmless: much of what stands in a queue was said by strangers.
#[must_use]
pub fn aligned(rows: &[Vec<String>], unicode: bool) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| harmless(cell, unicode)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, wide) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(wide - width(cell) + 2));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_stands_in_them() {
        let row = |cells: [&str; 2]| cells.map(ToOwned::to_owned).to_vec();
        let rows = [
            row(["ID", "FROM"]),
            row(["漢1", "x\x1b"]),
            row(["long one", ""]),
        ];
        assert_eq!(
            aligned(&rows, true),
            ["ID        FROM", "漢1       x\\u{1b}", "long one"]
        );
    }
}

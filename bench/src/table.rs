//! A table as aligned text or as Markdown.

/// Prints like a person would write it: `12.3`, `4,567`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() < 100.0 && value.fract().abs() > 0.005 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Lays rows out; the first is the head, the first column is text, the others are numbers.
pub fn render(rows: &[Vec<String>], markdown: bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for (line, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let cells: Vec<String> = cells.collect();
        if markdown {
            text.extend(["| ", &cells.join(" | "), " |\n"]);
        } else {
            text.extend([&cells.join("  "), "\n"]);
        }
        if line == 0 && markdown {
            let rules: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(n, width)| {
                    if n == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) }
                })
                .collect();
            text.extend(["| ", &rules.join(" | "), " |\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(8.94), "8.9");
        assert_eq!(number(140.0), "140");
        assert_eq!(number(216_000.4), "216,000");
        assert_eq!(number(f64::NAN), "-");
    }
}

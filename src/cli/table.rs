//! Plain-text tables for people: columns as wide as their content, numbers to the right.

/// One column.
pub struct Column {
    pub title: String,
    /// Numbers stand to the right, words to the left.
    pub right: bool,
}

/// A column of words.
pub fn words(title: impl Into<String>) -> Column {
    Column { title: title.into(), right: false }
}

/// A column of numbers.
pub fn numbers(title: impl Into<String>) -> Column {
    Column { title: title.into(), right: true }
}

/// The table as lines of text, without trailing spaces.
pub fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([columns[i].title.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = columns.iter().zip(&widths).zip(cells).map(|((column, &width), cell)| {
            if column.right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    let titles: Vec<String> = columns.iter().map(|column| column.title.clone()).collect();
    let mut text = line(&titles);
    for row in rows {
        text += &line(row);
    }
    text
}

/// A text cut to at most `width` characters, with an ellipsis where it was cut.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).collect::<String>() + "\u{2026}"
}

/// A number of bytes as people read it.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["cake".to_owned(), "1".to_owned()], vec!["pie".into(), "10".into()]];
        let text = render(&[words("item"), numbers("rank")], &rows);
        assert_eq!(text, "  item  rank\n  cake     1\n  pie     10\n");
    }

    #[test]
    fn byte_counts_are_readable() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}

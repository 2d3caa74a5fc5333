//! Plain-text tables for people: columns as wide as their content, numbers to the right.

pub use crate::files::readable_size as bytes;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["cake".to_owned(), "1".to_owned()], vec!["pie".into(), "10".into()]];
        let text = render(&[words("item"), numbers("rank")], &rows);
        assert_eq!(text, "  item  rank\n  cake     1\n  pie     10\n");
    }
}

//! An experiment's report as a folder: tables, figures, and the whole of it to read again.
//!
//! In: an experiment's [`Report`]. Out: `report.json` (which reads back), `report.md`, tables as CSV
//! and Parquet, figures as PNG and SVG, and summary tables for a terminal. Every file is written
//! atomically.

mod data;
mod figures;
mod paper;
mod summary;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::experiment::Report;
use crate::export::figures::TableFormat;
use crate::files::{FileError, create_folder, write_atomic};

pub use figures::ReportFigure;
pub use paper::paper_tables;
pub use summary::{SummaryTable, heading, short as summary_tables};

/// The whole report, which [`read_report`] reads.
pub const REPORT_FILE: &str = "report.json";
/// Larger than any report.
const REPORT_LIMIT: u64 = 1 << 30;

/// Writes everything into a folder, and returns the files.
///
/// # Errors
/// When a file cannot be written.
pub fn write_report(report: &Report, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    create_folder(folder)?;
    let mut files = Vec::new();
    for (name, table) in data::tables(report) {
        if table.rows() == 0 {
            continue;
        }
        for (ending, format) in [("csv", TableFormat::Csv), ("parquet", TableFormat::Parquet)] {
            let path = folder.join(format!("{name}.{ending}"));
            table.write(None, format, &path)?;
            files.push(path);
        }
    }
    for figure in ReportFigure::of(report) {
        files.extend(figure.write(report, folder)?);
    }
    let markdown = folder.join("report.md");
    write_atomic(&markdown, |out| out.write_all(markdown_text(report).as_bytes()))?;
    files.push(markdown);
    // Last, so that a folder with a report is complete.
    let json = folder.join(REPORT_FILE);
    write_atomic(&json, |out| {
        serde_json::to_writer_pretty(out, report).map_err(std::io::Error::other)
    })?;
    files.push(json);
    Ok(files)
}

/// Reads what [`write_report`] wrote.
///
/// # Errors
/// When the file cannot be read, or is no report of this version.
pub fn read_report(file: &Path) -> Result<Report, FileError> {
    let bytes = crate::files::read_bounded(file, REPORT_LIMIT, "a report")?;
    let report: Report = serde_json::from_slice(&bytes)
        .map_err(|error| FileError::read(file)(std::io::Error::other(error)))?;
    if report.schema != crate::experiment::report::SCHEMA {
        let reason = format!(
            "it is a report of version {}, this Haze reads {}",
            report.schema,
            crate::experiment::report::SCHEMA
        );
        return Err(FileError::read(file)(std::io::Error::other(reason)));
    }
    Ok(report)
}

/// The report as Markdown.
fn markdown_text(report: &Report) -> String {
    let mut text = format!("# Experiment\n\n{}\n", heading(report));
    for SummaryTable { title, columns, rows, note } in summary::long(report) {
        text += &format!("## {title}\n\n");
        text += &format!("| {} |\n", columns.join(" | "));
        text += &format!("| --- |{}\n", " ---: |".repeat(columns.len().saturating_sub(1)));
        for row in &rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        if !note.is_empty() {
            text += &format!("\n{note}\n");
        }
        text += "\n";
    }
    if !report.notes.is_empty() {
        text += "## Notes\n\n";
        for note in &report.notes {
            text += &format!("- {note}\n");
        }
        text += "\n";
    }
    text += "## Settings\n\n```json\n";
    text += &serde_json::to_string_pretty(&report.settings).unwrap_or_default();
    text + "\n```\n"
}

#[cfg(test)]
pub(crate) mod tests;

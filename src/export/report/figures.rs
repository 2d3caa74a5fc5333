//! The figures of a report's folder.

use std::path::{Path, PathBuf};

use crate::experiment::Report;
use crate::export::figures::{Figure, FigureFormat, ReportPart, write_figure};
use crate::files::FileError;

/// One figure of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportFigure {
    /// Number of the test set.
    pub test: usize,
    pub part: ReportPart,
}

impl ReportFigure {
    /// All that a report has something for. What does not depend on the test set comes once.
    pub fn of(report: &Report) -> Vec<Self> {
        let mut figures = Vec::new();
        for (test, of_test) in report.tests.iter().enumerate() {
            for part in ReportPart::of(report, of_test) {
                if part != ReportPart::Training || test == 0 {
                    figures.push(Self { test, part });
                }
            }
        }
        figures
    }

    /// Writes it as PNG and as SVG.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(self, report: &Report, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
        let name = match report.tests.len() > 1 && self.part != ReportPart::Training {
            true => format!("{}-{}", self.part.name(), self.test + 1),
            false => self.part.name(),
        };
        let mut files = Vec::new();
        for (ending, format) in [("png", FigureFormat::Png), ("svg", FigureFormat::Svg)] {
            let path = folder.join(format!("{name}.{ending}"));
            let test = &report.tests[self.test];
            write_figure(Figure::Report { report, test, part: self.part }, format, &path)?;
            files.push(path);
        }
        Ok(files)
    }
}

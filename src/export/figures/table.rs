//! The data behind a figure as CSV, Parquet or NPZ: every row that is drawn, in full precision,
//! with the recipe that repeats it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use npyz::npz::NpzWriter;
use npyz::{DType, TypeChar, WriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::files::{FileError, write_atomic};

/// Key of the recipe in every format.
const RECIPE_KEY: &str = "haze_recipe";

/// Formats of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    Csv,
    Parquet,
    Npz,
    /// For papers and notes: numbers to four significant digits, the recipe in a comment.
    Markdown,
    /// An object with `columns`, `rows` (objects) and `recipe`.
    Json,
}

/// Named columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    columns: Vec<(String, Values)>,
}

/// The values of one column. `docs/exports.md` gives the unit of each.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// NaN: unknown.
    Numbers(Vec<f64>),
    Whole(Vec<Option<i64>>),
    Text(Vec<String>),
}

impl Table {
    /// Adds a column of numbers; NaN where one is unknown.
    pub fn numbers(mut self, name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        self.push(name, Values::Numbers(values.into_iter().collect()));
        self
    }

    /// Adds a column of whole numbers.
    pub fn whole(self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        self.maybe_whole(name, values.into_iter().map(Some))
    }

    /// Adds a column of whole numbers, some of which are unknown.
    pub fn maybe_whole(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = Option<usize>>,
    ) -> Self {
        let values = values.into_iter().map(|v| v.and_then(|v| i64::try_from(v).ok()));
        self.push(name, Values::Whole(values.collect()));
        self
    }

    /// Adds a column of texts.
    pub fn text<T: Into<String>>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        self.push(name, Values::Text(values.into_iter().map(Into::into).collect()));
        self
    }

    fn push(&mut self, name: &str, values: Values) {
        assert!(
            self.columns.iter().all(|(_, other)| other.len() == values.len()),
            "column {name} has {} rows, expected {}",
            values.len(),
            self.rows()
        );
        self.columns.push((name.to_owned(), values));
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, values)| values.len())
    }

    /// Writes the table, atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(
        &self,
        recipe: Option<&str>,
        format: TableFormat,
        path: &Path,
    ) -> Result<(), FileError> {
        write_atomic(path, |file| match format {
            TableFormat::Csv => self.write_csv(recipe, file),
            TableFormat::Parquet => {
                // Parquet wants to own a writer that can be sent; the table is in memory anyway.
                file.write_all(&self.parquet(recipe).map_err(io::Error::other)?)
            }
            TableFormat::Markdown => self.write_markdown(recipe, file),
            TableFormat::Json => Ok(serde_json::to_writer_pretty(file, &self.json(recipe)?)?),
            TableFormat::Npz => {
                let mut npz = NpzWriter::new(file);
                for (name, values) in &self.columns {
                    values.write_npy(&mut npz, name)?;
                }
                if let Some(recipe) = recipe {
                    Values::Text(vec![recipe.to_owned()]).write_npy(&mut npz, RECIPE_KEY)?;
                }
                npz.zip_writer().finish().map_err(io::Error::other)?;
                Ok(())
            }
        })
    }

    fn write_csv(&self, recipe: Option<&str>, file: &mut impl Write) -> io::Result<()> {
        if let Some(recipe) = recipe {
            writeln!(file, "# {RECIPE_KEY}: {recipe}")?;
        }
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record(self.columns.iter().map(|(name, _)| name))?;
        for row in 0..self.rows() {
            csv.write_record(self.columns.iter().map(|(_, values)| values.cell(row)))?;
        }
        csv.flush()
    }

    fn write_markdown(&self, recipe: Option<&str>, file: &mut impl Write) -> io::Result<()> {
        // Two hyphens would end the comment.
        if let Some(recipe) = recipe {
            writeln!(file, "<!-- {RECIPE_KEY}: {} -->\n", recipe.replace("--", "-\\u002d"))?;
        }
        let escaped = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        let names = self.columns.iter().map(|(name, _)| escaped(name)).collect();
        let rules = self.columns.iter().map(|(_, values)| match values {
            Values::Text(_) => ":--".to_owned(),
            Values::Numbers(_) | Values::Whole(_) => "--:".to_owned(),
        });
        writeln!(file, "{}\n{}", row(names), row(rules.collect()))?;
        for at in 0..self.rows() {
            let cells = self.columns.iter().map(|(_, values)| match values {
                Values::Numbers(values) if !values[at].is_nan() => significant(values[at]),
                values => escaped(&values.cell(at)),
            });
            writeln!(file, "{}", row(cells.collect()))?;
        }
        Ok(())
    }

    fn json(&self, recipe: Option<&str>) -> io::Result<serde_json::Value> {
        use serde_json::{Map, Value, json};
        let value = |values: &Values, row: usize| match values {
            // JSON has no word for "not a number": null is unknown.
            Values::Numbers(values) => json!(values[row]),
            Values::Whole(values) => json!(values[row]),
            Values::Text(values) => json!(values[row]),
        };
        let row = |row: usize| -> Map<String, Value> {
            self.columns.iter().map(|(name, values)| (name.clone(), value(values, row))).collect()
        };
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        let recipe: Value = recipe.map(serde_json::from_str).transpose()?.unwrap_or_default();
        let rows: Vec<_> = (0..self.rows()).map(row).collect();
        Ok(json!({ "columns": names, "rows": rows, RECIPE_KEY: recipe }))
    }

    fn parquet(&self, recipe: Option<&str>) -> Result<Vec<u8>, String> {
        let columns = self.columns.iter().map(|(name, values)| (name, values.arrow()));
        let batch = RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())?;
        let recipe = recipe.map(|r| vec![KeyValue::new(RECIPE_KEY.to_owned(), r.to_owned())]);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(recipe)
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties));
        let mut writer = writer.map_err(|error| error.to_string())?;
        writer.write(&batch).map_err(|error| error.to_string())?;
        writer.into_inner().map_err(|error| error.to_string())
    }
}

/// Four significant digits, whole numbers in full.
fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 || !value.is_finite() || magnitude >= 1000.0 {
        return format!("{value:.0}");
    }
    if magnitude < 1e-4 {
        return format!("{value:.3e}");
    }
    let decimals = (3 - magnitude.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Numbers(values) => values.len(),
            Values::Whole(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    fn cell(&self, row: usize) -> String {
        match self {
            Values::Numbers(values) if values[row].is_nan() => String::new(),
            Values::Numbers(values) => values[row].to_string(),
            Values::Whole(values) => values[row].map(|v| v.to_string()).unwrap_or_default(),
            Values::Text(values) => values[row].clone(),
        }
    }

    fn arrow(&self) -> ArrayRef {
        match self {
            Values::Numbers(values) => {
                let known = values.iter().map(|&v| (!v.is_nan()).then_some(v));
                Arc::new(known.collect::<Float64Array>())
            }
            Values::Whole(values) => Arc::new(values.iter().copied().collect::<Int64Array>()),
            Values::Text(values) => Arc::new(StringArray::from_iter_values(values)),
        }
    }

    fn write_npy<W: Write + io::Seek>(&self, npz: &mut NpzWriter<W>, name: &str) -> io::Result<()> {
        let shape = [self.len() as u64];
        let zip = Default::default;
        match self {
            Values::Numbers(values) => {
                let mut writer =
                    npz.array(name, zip())?.default_dtype().shape(&shape).begin_nd()?;
                writer.extend(values.iter().copied())?;
                writer.finish()
            }
            Values::Whole(values) if values.iter().all(Option::is_some) => {
                let mut writer =
                    npz.array(name, zip())?.default_dtype().shape(&shape).begin_nd()?;
                writer.extend(values.iter().map(|v| v.unwrap_or_default()))?;
                writer.finish()
            }
            // NumPy has no whole number for "unknown".
            Values::Whole(values) => {
                let mut writer =
                    npz.array(name, zip())?.default_dtype().shape(&shape).begin_nd()?;
                writer.extend(values.iter().map(|v| v.map_or(f64::NAN, |v| v as f64)))?;
                writer.finish()
            }
            Values::Text(values) => {
                let longest = values.iter().map(|text| text.chars().count()).max();
                let width = longest.unwrap_or(0).max(1) as u64;
                let kind: npyz::TypeStr =
                    format!("<{}{width}", TypeChar::UnicodeStr.to_str()).parse().map_err(
                        |error: npyz::ParseTypeStrError| io::Error::other(error.to_string()),
                    )?;
                let mut writer =
                    npz.array(name, zip())?.dtype(DType::Plain(kind)).shape(&shape).begin_nd()?;
                writer.extend(values.iter())?;
                writer.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::default()
            .whole("rank", [1, 2])
            .text("image", ["a, \"b\".png", "\u{e9}.png"])
            .numbers("cosine", [0.1 + 0.2, f64::NAN])
            .maybe_whole("row", [None, Some(7)])
    }

    fn written(format: TableFormat) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        table().write(Some("{\"seed\":1}"), format, &path).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_csv_begins_with_its_recipe_and_keeps_every_digit() {
        let text = String::from_utf8(written(TableFormat::Csv)).unwrap();
        let expected = "# haze_recipe: {\"seed\":1}\nrank,image,cosine,row\n\
                        1,\"a, \"\"b\"\".png\",0.30000000000000004,\n2,\u{e9}.png,,7\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn markdown_rounds_for_readers_and_keeps_its_shape() {
        let text = String::from_utf8(written(TableFormat::Markdown)).unwrap();
        let expected = "<!-- haze_recipe: {\"seed\":1} -->\n\n\
                        | rank | image | cosine | row |\n| --: | :-- | --: | --: |\n\
                        | 1 | a, \"b\".png | 0.3000 |  |\n| 2 | \u{e9}.png |  | 7 |\n";
        assert_eq!(text, expected);
        let odd = Table::default().text("a", ["x | y\nz"]).numbers("b", [1234.5]);
        let mut out = Vec::new();
        odd.write_markdown(Some("{\"q\":\"a-->b\"}"), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("| x \\| y z | 1234 |"), "{text}");
        assert_eq!(text.matches("-->").count(), 1, "{text}");
        for (value, expected) in [(0.12345, "0.1235"), (12.345, "12.35"), (2e-6, "2.000e-6")] {
            assert_eq!(significant(value), expected);
        }
    }

    #[test]
    fn json_has_named_rows_full_numbers_and_the_recipe() {
        let json: serde_json::Value = serde_json::from_slice(&written(TableFormat::Json)).unwrap();
        assert_eq!(json["columns"][2], "cosine");
        assert_eq!(json["rows"][0]["cosine"], 0.1 + 0.2);
        assert!(json["rows"][1]["cosine"].is_null() && json["rows"][0]["row"].is_null());
        assert_eq!(json["haze_recipe"]["seed"], 1);
    }

    #[test]
    fn a_parquet_file_carries_its_recipe_and_nulls_for_what_is_unknown() {
        use arrow_array::Array;
        use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.parquet");
        table().write(Some("{\"seed\":1}"), TableFormat::Parquet, &path).unwrap();
        let file = std::fs::File::open(path).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let pairs = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
        let recipe = pairs.iter().find(|pair| pair.key == RECIPE_KEY).unwrap();
        assert_eq!(recipe.value.as_deref(), Some("{\"seed\":1}"));
        let batch = builder.build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert!(batch.column_by_name("cosine").unwrap().is_null(1));
        assert!(batch.column_by_name("row").unwrap().is_null(0));
    }

    #[test]
    fn an_npz_file_holds_one_array_per_column_and_the_recipe() {
        let bytes = written(TableFormat::Npz);
        let mut npz = npyz::npz::NpzArchive::new(io::Cursor::new(bytes)).unwrap();
        let texts = |npz: &mut npyz::npz::NpzArchive<_>, name: &str| -> Vec<String> {
            npz.by_name(name).unwrap().unwrap().into_vec().unwrap()
        };
        assert_eq!(texts(&mut npz, "image")[1], "\u{e9}.png");
        assert_eq!(texts(&mut npz, RECIPE_KEY), ["{\"seed\":1}"]);
        let ranks: Vec<i64> = npz.by_name("rank").unwrap().unwrap().into_vec().unwrap();
        assert_eq!(ranks, [1, 2]);
        let rows: Vec<f64> = npz.by_name("row").unwrap().unwrap().into_vec().unwrap();
        assert!(rows[0].is_nan() && rows[1] == 7.0);
    }
}

//! Items to label, out as CSV or JSON lines, and the answers back.
//!
//! In: ranked items of a pool, and later a file of answers. Out: a file for annotators, and a
//! labels file beside the cache that the next round regards as labelled. An answer is a caption of
//! its image. Items are known by the id that their cache gives them, never by a row number, so
//! answers still fit after the cache was made again.
//!
//! Answers are checked whole before anything is written, and every problem is named with its line:
//! a file with one wrong line changes nothing, and nothing of it is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::active::Strategy;
use crate::files::{FileError, read_bounded, write_atomic};

/// The labels file beside a cache.
pub const LABELS_FILE: &str = "labels.jsonl";
/// Columns of the CSV that is sent out; answers need `id` and `answer`, and ignore the others.
pub const COLUMNS: [&str; 10] = [
    "rank",
    "id",
    "image",
    "captions",
    "strategy",
    "score",
    "uncertainty",
    "aleatoric",
    "epistemic",
    "answer",
];
/// Bytes of an answers or labels file at most.
const FILE_LIMIT: u64 = 1 << 28;
/// Characters of one answer at most.
const ANSWER_LIMIT: usize = 10_000;
/// Problems that are listed one by one.
const PROBLEMS_LISTED: usize = 12;

/// Why answers cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum AnnotationError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: the ending must be .csv or .jsonl", path.display())]
    Ending { path: PathBuf },
    #[error(
        "{}: {} of its answers cannot be taken, so none was; correct them and run the command \
         again:{}", path.display(), problems.len(), list(problems)
    )]
    Answers { path: PathBuf, problems: Vec<Problem> },
    #[error("{}: {reason}", path.display())]
    Whole { path: PathBuf, reason: String },
}

/// One line that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u64,
    pub reason: String,
}

fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(PROBLEMS_LISTED) {
        text += &format!("\n  line {}: {}", problem.line, problem.reason);
    }
    match problems.len().saturating_sub(PROBLEMS_LISTED) {
        0 => text,
        more => text + &format!("\n  and {more} more"),
    }
}

/// An item to label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Task {
    /// From 1, the most wanted first.
    pub rank: usize,
    pub id: String,
    /// The image file, where it is known.
    pub image: Option<String>,
    /// What is written about it already.
    pub captions: Vec<String>,
    pub strategy: Strategy,
    /// What it was picked by, larger first.
    pub score: f64,
    /// Total variance in unit space, where an adapter was asked.
    pub uncertainty: Option<f64>,
    pub aleatoric: Option<f64>,
    pub epistemic: Option<f64>,
    /// Empty, to be filled in.
    pub answer: String,
}

/// Writes tasks as CSV or JSON lines, by the ending.
///
/// # Errors
/// When the ending is another one, or the file cannot be written.
pub fn write_tasks(path: &Path, tasks: &[Task]) -> Result<(), AnnotationError> {
    match Format::of(path)? {
        Format::JsonLines => write_atomic(path, |file| {
            for task in tasks {
                serde_json::to_writer(&mut *file, task)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?,
        Format::Csv => write_atomic(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            csv.write_record(COLUMNS)?;
            let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            for task in tasks {
                csv.write_record([
                    task.rank.to_string(),
                    task.id.clone(),
                    task.image.clone().unwrap_or_default(),
                    task.captions.join(" | "),
                    task.strategy.to_string(),
                    task.score.to_string(),
                    number(task.uncertainty),
                    number(task.aleatoric),
                    number(task.epistemic),
                    task.answer.clone(),
                ])?;
            }
            csv.flush()
        })?,
    }
    Ok(())
}

enum Format {
    Csv,
    JsonLines,
}

impl Format {
    fn of(path: &Path) -> Result<Self, AnnotationError> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Ok(Format::Csv),
            Some("jsonl") => Ok(Format::JsonLines),
            _ => Err(AnnotationError::Ending { path: path.to_owned() }),
        }
    }
}

/// One line of an answers file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    /// From 1.
    line: u64,
    id: String,
    /// Empty where the line was left open.
    captions: Vec<String>,
}

/// What is labelled so far: captions by image id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    by_id: BTreeMap<String, Vec<String>>,
}

/// A line of the labels file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelLine {
    id: String,
    captions: Vec<String>,
}

/// What a file of answers changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LabelChanges {
    /// Ids labelled for the first time.
    pub added: Vec<String>,
    /// Ids whose earlier answer was replaced.
    pub replaced: Vec<String>,
    /// Ids that had this very answer already.
    pub unchanged: Vec<String>,
    /// Lines without an answer: these items stay unlabelled.
    pub left_open: usize,
    /// Labelled items now.
    pub labelled: usize,
}

impl Labels {
    /// Reads a labels file; one that does not exist holds no labels.
    ///
    /// # Errors
    /// When the file is unreadable, too large, or damaged.
    pub fn read(path: &Path) -> Result<Self, AnnotationError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = read_text(path, "labels")?;
        let mut labels = Self::default();
        for (line, text) in numbered_lines(&text) {
            let damaged = |reason: String| AnnotationError::Whole {
                path: path.to_owned(),
                reason: format!("line {line} {reason}; restore the file, or delete that line"),
            };
            let found: LabelLine =
                serde_json::from_str(text).map_err(|e| damaged(format!("is no label: {e}")))?;
            if labels.by_id.contains_key(&found.id) {
                return Err(damaged(format!("labels {:?} a second time", found.id)));
            }
            labels.by_id.insert(found.id, found.captions);
        }
        Ok(labels)
    }

    /// Writes all labels, by id; the file is whole or as it was before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AnnotationError> {
        write_atomic(path, |file| {
            for (id, captions) in &self.by_id {
                let line = LabelLine { id: id.clone(), captions: captions.clone() };
                serde_json::to_writer(&mut *file, &line)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Number of labelled items.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The captions that were answered for an item.
    pub fn captions(&self, id: &str) -> Option<&[String]> {
        self.by_id.get(id).map(Vec::as_slice)
    }

    /// Whether an item is labelled.
    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Labelled ids that a pool does not hold.
    pub fn unknown<'a>(&'a self, pool: &BTreeSet<&str>) -> Vec<&'a str> {
        self.by_id.keys().map(String::as_str).filter(|id| !pool.contains(id)).collect()
    }

    /// Takes the answers of a file for items of `pool`. An item that has another answer already
    /// gets the new one only with `replace`.
    ///
    /// A CSV needs the columns `id` and `answer`. A JSON line needs the fields `id` (a text) and
    /// `answer` (a text, a list of texts, or null). An answer of nothing but blanks leaves its item
    /// unlabelled.
    ///
    /// # Errors
    /// When the file is unreadable or has another format, answers nothing at all, or a line is
    /// malformed, names an unknown id, or answers an item twice. These labels are then unchanged.
    pub fn take(
        &mut self,
        path: &Path,
        pool: &BTreeSet<&str>,
        replace: bool,
    ) -> Result<LabelChanges, AnnotationError> {
        let (answers, mut problems) = read_answers(path)?;
        let mut line_of: BTreeMap<&str, u64> = BTreeMap::new();
        let mut changes = LabelChanges::default();
        let mut next = self.by_id.clone();
        for answer in &answers {
            let (line, id) = (answer.line, answer.id.as_str());
            let mut problem = |reason| problems.push(Problem { line, reason });
            if !pool.contains(id) {
                problem(format!("the pool has no item {id:?}; copy ids as they were sent out"));
                continue;
            }
            if let Some(first) = line_of.insert(id, line) {
                problem(format!("answers {id:?} again, as line {first} did; keep one of them"));
                continue;
            }
            if answer.captions.is_empty() {
                changes.left_open += 1;
                continue;
            }
            match next.get(id) {
                Some(earlier) if *earlier == answer.captions => {
                    changes.unchanged.push(id.to_owned());
                    continue;
                }
                Some(_) if !replace => {
                    problem(format!(
                        "{id:?} has another answer already; allow it to be replaced, or leave this \
                         line out"
                    ));
                    continue;
                }
                Some(_) => changes.replaced.push(id.to_owned()),
                None => changes.added.push(id.to_owned()),
            }
            next.insert(id.to_owned(), answer.captions.clone());
        }
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.line);
            return Err(AnnotationError::Answers { path: path.to_owned(), problems });
        }
        if changes.left_open == answers.len() {
            let reason = match answers.len() {
                0 => "it has no answers, expected at least one line with an id and an answer"
                    .to_owned(),
                n => format!("all {n} answers are empty; fill in the answer of at least one item"),
            };
            return Err(AnnotationError::Whole { path: path.to_owned(), reason });
        }
        changes.labelled = next.len();
        self.by_id = next;
        Ok(changes)
    }
}

fn read_text(path: &Path, what: &'static str) -> Result<String, AnnotationError> {
    String::from_utf8(read_bounded(path, FILE_LIMIT, what)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let reason = format!("byte {at} is not UTF-8; save the file as UTF-8");
        AnnotationError::Whole { path: path.to_owned(), reason }
    })
}

/// Lines that are not blank, from 1.
fn numbered_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

/// The answers of a file, and the lines that are none.
fn read_answers(path: &Path) -> Result<(Vec<Answer>, Vec<Problem>), AnnotationError> {
    let format = Format::of(path)?;
    let text = read_text(path, "answers")?;
    // Spreadsheets put a byte-order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // and end lines by CR LF, which the CSV reader would count one line late.
    let text = text.replace("\r\n", "\n");
    let text = text.as_str();
    let (mut answers, mut problems) = (Vec::new(), Vec::new());
    let mut push = |line: u64, read: Result<(String, Vec<String>), String>| {
        let checked = read.and_then(|(id, captions)| {
            let captions: Vec<String> = captions
                .iter()
                .map(|caption| caption.trim().to_owned())
                .filter(|caption| !caption.is_empty())
                .collect();
            match captions.iter().map(|caption| caption.chars().count()).max() {
                Some(longest) if longest > ANSWER_LIMIT => Err(format!(
                    "the answer has {longest} characters, expected at most {ANSWER_LIMIT}"
                )),
                _ if id.is_empty() => Err("the id is empty".to_owned()),
                _ => Ok(Answer { line, id, captions }),
            }
        });
        match checked {
            Ok(answer) => answers.push(answer),
            Err(reason) => problems.push(Problem { line, reason }),
        }
    };
    match format {
        Format::JsonLines => {
            for (line, text) in numbered_lines(text) {
                push(line, json_answer(text));
            }
        }
        Format::Csv => {
            let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
            let whole = |reason: String| AnnotationError::Whole { path: path.to_owned(), reason };
            let header = reader.headers().map_err(|e| whole(e.to_string()))?.clone();
            let column = |name: &str| {
                header.iter().position(|title| title.trim() == name).ok_or_else(|| {
                    let titles: Vec<&str> = header.iter().collect();
                    whole(format!(
                        "it has no column {name:?}, found {}; the first line names the columns",
                        titles.join(", ")
                    ))
                })
            };
            let (id, answer) = (column("id")?, column("answer")?);
            for record in reader.records() {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => {
                        let line = error.position().map_or(0, csv::Position::line);
                        push(line, Err(error.to_string()));
                        continue;
                    }
                };
                let line = record.position().map_or(0, csv::Position::line);
                if record.len() != header.len() {
                    let reason = format!(
                        "{} fields, expected {}; an answer with a comma needs quotes around it",
                        record.len(),
                        header.len()
                    );
                    push(line, Err(reason));
                    continue;
                }
                push(line, Ok((record[id].to_owned(), vec![record[answer].to_owned()])));
            }
        }
    }
    Ok((answers, problems))
}

/// Id and captions of a JSON line.
fn json_answer(text: &str) -> Result<(String, Vec<String>), String> {
    use serde_json::Value;
    let value: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON: {e}"))?;
    let Value::Object(fields) = value else {
        return Err(format!("is {}, expected an object with id and answer", kind(&value)));
    };
    let id = match fields.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(other) => return Err(format!("the id is {}, expected a text", kind(other))),
        None => return Err("has no field \"id\"".to_owned()),
    };
    let wrong = |other: &Value| {
        format!("the answer is {}, expected a text or a list of texts", kind(other))
    };
    let captions = match fields.get("answer") {
        Some(Value::String(caption)) => vec![caption.clone()],
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| match item {
                Value::String(caption) => Ok(caption.clone()),
                other => Err(format!("one answer of the list is {}, expected a text", kind(other))),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong(other)),
        None => return Err("has no field \"answer\"".to_owned()),
    };
    Ok((id, captions))
}

fn kind(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(rank: usize, id: &str) -> Task {
        Task {
            rank,
            id: id.to_owned(),
            image: Some(format!("images/{id}.jpg")),
            captions: vec!["a cake, with \"icing\"".to_owned(), "food".to_owned()],
            strategy: Strategy::Total,
            score: 0.5,
            uncertainty: Some(0.5),
            aleatoric: Some(0.4),
            epistemic: Some(0.1),
            answer: String::new(),
        }
    }

    fn pool() -> BTreeSet<&'static str> {
        ["a", "b", "c,d"].into_iter().collect()
    }

    fn answers(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn what_is_sent_out_can_be_filled_in_and_taken_back_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tasks.csv", "tasks.jsonl"] {
            let path = folder.path().join(name);
            write_tasks(&path, &[task(1, "c,d"), task(2, "a"), task(3, "b")]).unwrap();
            let empty = Labels::default().take(&path, &pool(), false).unwrap_err().to_string();
            assert!(empty.contains("all 3 answers are empty"), "{empty}");
            let text = std::fs::read_to_string(&path).unwrap();
            let filled: String = match name.ends_with("csv") {
                // The last column is the answer.
                true => (0..)
                    .zip(text.lines())
                    .map(|(i, line)| match i {
                        1 | 2 => format!("{line}\"one, {i}\"\n"),
                        _ => format!("{line}\n"),
                    })
                    .collect(),
                false => (1..)
                    .zip(text.lines())
                    .map(|(i, line)| match i {
                        1 | 2 => {
                            line.replace("\"answer\":\"\"", &format!("\"answer\":\"one, {i}\""))
                                + "\n"
                        }
                        _ => format!("{line}\n"),
                    })
                    .collect(),
            };
            std::fs::write(&path, filled).unwrap();
            let mut labels = Labels::default();
            let changes = labels.take(&path, &pool(), false).unwrap();
            assert_eq!(changes.added, ["c,d", "a"]);
            assert_eq!((changes.left_open, changes.labelled), (1, 2));
            assert_eq!(labels.captions("a").unwrap(), ["one, 2"]);
            let file = folder.path().join(LABELS_FILE);
            labels.write(&file).unwrap();
            assert_eq!(Labels::read(&file).unwrap(), labels);
            let again = labels.take(&path, &pool(), false).unwrap();
            assert_eq!((again.added.len(), again.unchanged.len()), (0, 2));
        }
    }

    #[test]
    fn one_wrong_line_changes_nothing_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str, text: &str, words: &[&str]| {
            let path = answers(folder.path(), name, text);
            let mut labels = Labels::default();
            labels.by_id.insert("b".to_owned(), vec!["earlier".to_owned()]);
            let before = labels.clone();
            let error = labels.take(&path, &pool(), false).unwrap_err().to_string();
            assert_eq!(labels, before);
            for word in words {
                assert!(error.contains(word), "{error}");
            }
        };
        let good = "{\"id\":\"a\",\"answer\":\"x\"}\n";
        refused(
            "1.jsonl",
            &format!("{good}{{\"id\":\"z\",\"answer\":\"x\"}}"),
            &["line 2", "\"z\""],
        );
        refused("2.jsonl", &format!("{good}\n{good}"), &["line 3", "as line 1 did"]);
        refused("3.jsonl", "{\"id\":\"a\",\"answer\":7}", &["a number", "expected a text"]);
        refused("4.jsonl", "{\"id\":3,\"answer\":\"x\"}", &["the id is a number"]);
        refused("5.jsonl", "{\"id\":\"b\",\"answer\":\"new\"}", &["another answer already"]);
        refused("6.jsonl", "[1]\n{\"id\":", &["line 1: is a list", "line 2: is no JSON"]);
        refused("7.jsonl", "", &["no answers"]);
        refused("8.csv", "id,label\na,x\n", &["no column \"answer\"", "id, label"]);
        refused("9.csv", "id,answer\na,x,y\n", &["line 2", "quotes"]);
        refused("10.csv", "id,answer\na,x\n,y\n", &["line 3", "the id is empty"]);
        refused("crlf.csv", "id,answer\r\na,x\r\nz,y\r\n", &["line 3", "\"z\""]);
        refused("11.txt", "id,answer\na,x\n", &[".csv or .jsonl"]);
        let many: String =
            (0..30).map(|i| format!("{{\"id\":\"z{i}\",\"answer\":\"x\"}}\n")).collect();
        refused("12.jsonl", &many, &["30 of its answers", "and 18 more"]);
    }

    #[test]
    fn an_earlier_answer_goes_only_when_it_may_and_lists_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut labels = Labels::default();
        labels.by_id.insert("b".to_owned(), vec!["earlier".to_owned()]);
        let text =
            "{\"id\":\"b\",\"answer\":[\" new \",\"\",\"newer\"]}\n{\"id\":\"a\",\"answer\":null}";
        let path = answers(folder.path(), "a.jsonl", text);
        assert!(labels.take(&path, &pool(), false).is_err());
        let changes = labels.take(&path, &pool(), true).unwrap();
        assert_eq!((changes.replaced, changes.left_open), (vec!["b".to_owned()], 1));
        assert_eq!(labels.captions("b").unwrap(), ["new", "newer"]);
        assert_eq!(labels.unknown(&["a"].into_iter().collect()), ["b"]);
    }

    #[test]
    fn a_damaged_labels_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"id\":\"a\",\"captions\":[\"x\"]}\n";
        let path = answers(folder.path(), LABELS_FILE, &format!("{line}{line}"));
        let error = Labels::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2 labels \"a\" a second time"), "{error}");
        let path = answers(folder.path(), LABELS_FILE, &line[..20]);
        assert!(Labels::read(&path).unwrap_err().to_string().contains("line 1 is no label"));
        assert!(Labels::read(&folder.path().join("none")).unwrap().is_empty());
    }
}

//! What was odd about a dataset, counted while it is read.

use std::fmt::Display;

/// Kinds of oddities, each with its number and first example, in the order they came up.
#[derive(Debug, Default)]
pub struct Notes {
    counted: Vec<Counted>,
    said: Vec<String>,
}

#[derive(Debug)]
struct Counted {
    what: &'static str,
    count: usize,
    first: String,
}

impl Notes {
    /// Counts one more of `what`, a plural such as "blank captions, left out".
    pub fn count(&mut self, what: &'static str, example: impl Display) {
        match self.counted.iter_mut().find(|counted| counted.what == what) {
            Some(counted) => counted.count += 1,
            None => self.counted.push(Counted { what, count: 1, first: example.to_string() }),
        }
    }

    /// Adds a sentence of its own.
    pub fn say(&mut self, sentence: impl Into<String>) {
        self.said.push(sentence.into());
    }

    /// "blank captions, left out: 3 (first: train_caps.txt, line 7)".
    pub fn into_sentences(self) -> Vec<String> {
        let counted = self
            .counted
            .into_iter()
            .map(|Counted { what, count, first }| format!("{what}: {count} (first: {first})"));
        self.said.into_iter().chain(counted).collect()
    }
}

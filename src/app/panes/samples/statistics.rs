//! What is known of a sample, of the mean and of the query, in words and numbers.
//!
//! In comes an entry, out go lines of text. Nothing here draws.

use crate::app::state::history::Entry;
use crate::app::state::selection::Item;
use crate::encoder::cosine;
use crate::session::result::{Nearest, QueryResult, SampleStatistics};

/// What the mean is called wherever it stands among samples.
pub const MEAN_NAME: &str = "mean (not a typical draw)";

/// One line: what it is, how much, and what that means.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub name: &'static str,
    pub value: String,
    pub meaning: String,
}

impl Line {
    fn new(name: &'static str, value: String, meaning: impl Into<String>) -> Self {
        Self { name, value, meaning: meaning.into() }
    }
}

/// A short name, also for screen readers.
pub fn name(item: Item) -> String {
    match item {
        Item::Query => "query".to_owned(),
        Item::Mean => "mean".to_owned(),
        Item::Sample(index) => format!("sample {index}"),
        Item::Gallery(row) => format!("gallery item {row}"),
        Item::Dimension(d) => format!("dimension {d}"),
    }
}

/// A quantile in percent, such as a typicality. The ends are bounds: a share of a finite number of
/// draws or captions is never known to be 0 or 1.
pub fn percentile(share: f64) -> String {
    match share {
        s if s < 0.01 => "< 1 %".to_owned(),
        s if s > 0.99 => "> 99 %".to_owned(),
        s => format!("{:.0} %", 100.0 * s),
    }
}

/// What a typicality says.
pub fn typicality_meaning(share: f64) -> String {
    let percent = percentile(share);
    let than = match percent.strip_prefix("< ").or_else(|| percent.strip_prefix("> ")) {
        Some(bound) if share < 0.5 => format!("less than {bound}"),
        Some(bound) => format!("more than {bound}"),
        None => percent.clone(),
    };
    format!(
        "{percent}: this draw is likelier than {than} of draws. Low means from the tail; the mean \
         scores highest though almost no draw is near it."
    )
}

/// Name of a match: its caption, or its image's file name.
pub fn match_name(nearest: &Nearest) -> &str {
    nearest.caption.as_deref().unwrap_or(&nearest.image)
}

/// One line under a tile: index, typicality, and the best match.
pub fn caption(entry: &Entry, item: Item) -> String {
    match item {
        Item::Mean => MEAN_NAME.to_owned(),
        Item::Sample(index) => {
            let mut caption = format!("#{index}");
            if let Some(statistics) = of_sample(entry, index) {
                caption += &format!(" · {} typical", percentile(statistics.typicality));
                if let Some(nearest) = &statistics.nearest {
                    caption += &format!(" · r1 {}", match_name(nearest));
                }
            }
            caption
        }
        Item::Query => entry.title(),
        other => name(other),
    }
}

/// Statistics of one sample, where they are known.
pub fn of_sample(entry: &Entry, index: usize) -> Option<&SampleStatistics> {
    entry.result.as_ref()?.samples.get(index).map(|sample| &sample.statistics)
}

/// All lines about an item.
pub fn lines(entry: &Entry, item: Item) -> Vec<Line> {
    let Some(result) = &entry.result else { return Vec::new() };
    match item {
        Item::Query => query_lines(result),
        Item::Mean => mean_lines(result),
        Item::Sample(index) => match result.samples.get(index) {
            Some(sample) => sample_lines(result, &sample.statistics),
            None => Vec::new(),
        },
        Item::Gallery(row) => gallery_lines(result, row),
        Item::Dimension(_) => Vec::new(),
    }
}

const DENSITY: &str = "Log-density of this draw divided by the number of dimensions: higher is \
                       likelier. Comparable within one query.";
const DISTANCE: &str = "Euclidean distance from the mean in embedding units.";
const COSINE: &str = "Cosine of the angle to the mean, -1 to 1.";

fn sample_lines(result: &QueryResult, sample: &SampleStatistics) -> Vec<Line> {
    let dimensions = result.distribution.dim() as f64;
    let mut lines = vec![
        Line::new(
            "draw",
            format!("#{}, seed {}", sample.index, result.recipe.sampling.seed),
            "Seed and index determine this embedding, whatever else is drawn.",
        ),
        Line::new(
            "log-density",
            format!("{} nats per dimension", number(sample.log_prob / dimensions)),
            DENSITY,
        ),
        Line::new(
            "typicality",
            format!("likelier than {} of draws", percentile(sample.typicality)),
            typicality_meaning(sample.typicality),
        ),
        Line::new("distance to mean", number(sample.distance_to_mean), DISTANCE),
        Line::new("cosine to mean", number(sample.cosine_to_mean), COSINE),
    ];
    if let Some(nearest) = &sample.nearest {
        lines.push(Line::new(
            "best match",
            format!("{}, cosine {}", match_name(nearest), number(nearest.score)),
            "The gallery item closest to this sample.",
        ));
    }
    if let Some(decoded) = sample.decoded_cosine {
        lines.push(Line::new(
            "re-embedded cosine",
            number(decoded),
            "Cosine between what the decoder was given and the embedding of the decoded picture: \
             how much of the sample survived decoding.",
        ));
    }
    lines
}

fn mean_lines(result: &QueryResult) -> Vec<Line> {
    let mean = result.distribution.mean();
    let mut lines = Vec::new();
    if let Ok(log_prob) = result.distribution.log_prob(&mean) {
        let density = number(log_prob / mean.len() as f64);
        lines.push(Line::new("log-density", format!("{density} nats per dimension"), DENSITY));
    }
    lines.push(Line::new(
        "typicality",
        "not a typical draw".to_owned(),
        "The mean scores highest though almost no draw is near it.",
    ));
    let query = &result.query_embedding.values;
    if query.len() == mean.len() {
        lines.push(Line::new(
            "cosine to query",
            number(cosine(&mean, query)),
            "Cosine between the predicted mean and the frozen embedding of the query.",
        ));
    }
    if let Some(best) = result.retrieval.as_ref().and_then(|r| r.items.first()) {
        let name = best.caption.as_deref().unwrap_or(&best.image);
        lines.push(Line::new(
            "best match",
            format!("{name}, cosine {}", number(best.score)),
            "The gallery item closest to the mean.",
        ));
    }
    lines
}

fn query_lines(result: &QueryResult) -> Vec<Line> {
    let mut lines = vec![Line::new(
        "kind",
        result.recipe.query.modality().to_string(),
        "What the frozen encoder was given.",
    )];
    if result.tokens_cut > 0 {
        lines.push(Line::new(
            "cut off",
            format!("{} tokens", result.tokens_cut),
            "The encoder never saw the end of this text.",
        ));
    }
    lines.push(Line::new(
        "norm",
        number(result.query_embedding.norm()),
        "Length of the frozen embedding, not normalised.",
    ));
    lines
}

fn gallery_lines(result: &QueryResult, row: usize) -> Vec<Line> {
    let Some(retrieved) = &result.retrieval else { return Vec::new() };
    let Some(item) = retrieved.items.iter().find(|item| item.row == row) else {
        return Vec::new();
    };
    vec![
        Line::new("rank by the mean", item.rank.to_string(), "Place in a search with the mean."),
        Line::new("cosine", number(item.score), "Cosine with the mean."),
        Line::new(
            "likely ranks",
            format!("{} to {} in 90 % of {} draws", item.rank_low, item.rank_high, retrieved.draws),
            "This item's rank in the middle 90 % of samples. Each item by itself; two overlapping \
             bars may still have a clear order.",
        ),
    ]
}

/// Three decimals for what is near one, three digits for the rest.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (0.001..10.0).contains(&size) {
        format!("{value:.3}")
    } else if (10.0..1000.0).contains(&size) {
        format!("{value:.1}")
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::panes::samples::fixture;

    #[test]
    fn a_share_of_draws_is_never_said_to_be_nothing_or_all() {
        assert_eq!(percentile(0.0), "< 1 %");
        assert_eq!(percentile(0.83), "83 %");
        assert_eq!(percentile(1.0), "> 99 %");
        assert!(typicality_meaning(0.83).starts_with("83 %: this draw is likelier than 83 %"));
        assert!(typicality_meaning(0.0).contains("likelier than less than 1 % of draws"));
    }

    #[test]
    fn numbers_keep_three_digits_whatever_their_size() {
        assert_eq!(number(0.9124), "0.912");
        assert_eq!(number(-0.9), "-0.900");
        assert_eq!(number(0.0), "0.000");
        assert_eq!(number(123.45), "123.5");
        assert_eq!(number(0.000_012_3), "1.23e-5");
    }

    #[test]
    fn a_caption_names_index_typicality_and_best_match() {
        let entry = fixture::entry(1, "a", 4);
        let caption = caption(&entry, Item::Sample(2));
        assert!(caption.starts_with("#2 · "), "{caption}");
        assert!(caption.contains("% typical · r1 item"), "{caption}");
    }

    #[test]
    fn every_item_of_a_result_has_something_to_say() {
        let entry = fixture::entry(1, "a", 4);
        for item in [Item::Query, Item::Mean, Item::Sample(3), Item::Gallery(0)] {
            assert!(!lines(&entry, item).is_empty(), "{item:?}");
        }
        assert!(lines(&entry, Item::Sample(4)).is_empty());
    }
}

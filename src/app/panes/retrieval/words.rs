//! Numbers of the ranking in words.

use crate::app::icons;
use crate::export::sheet::share;
use crate::gallery::Interval;
use crate::session::result::RankedItem;

pub const TOP_1_SET: &str = "Smallest group holding first place in 90 % of samples. A large group means the query does not decide.";
pub const RANK_INTERVAL: &str = "This item's rank in the middle 90 % of samples. Each item by itself; two overlapping bars may still have a clear order.";
pub const MEAN_OR_EXPECTED: &str = "Mean: one search with the predicted mean. Expected: every sample searches, items ordered by their median rank.";
pub const EXACT: &str =
    "Every item of the gallery was scored. Nothing was approximated or passed over.";

/// What P(top k) of an item means, with its numbers.
pub fn top_k(item: &RankedItem, k: usize, draws: usize) -> String {
    format!(
        "Share of embedding samples that place this item among the first {k}: {} of {draws}, so {} \
         given the sample size. Not the chance that it is correct.",
        item.top_k_count,
        bounds(item.p_top_k_interval, item.top_k_count, draws)
    )
}

/// What P(top 1) of an item means, with its numbers.
pub fn top_1(item: &RankedItem, draws: usize) -> String {
    format!(
        "Share of embedding samples that place this item first: {} of {draws}, so {} given the \
         sample size. Not the chance that it is correct.",
        item.top_1_count,
        bounds(item.p_top_1_interval, item.top_1_count, draws)
    )
}

/// The bounds of a share in per cent: "70-89 %". An end that is none or all is not printed: a
/// finite number of draws proves neither.
fn bounds(interval: Interval, count: usize, draws: usize) -> String {
    let percent = |share: f64| {
        let percent = 100.0 * share;
        if (1.0..=99.0).contains(&percent) {
            format!("{percent:.0}")
        } else {
            format!("{percent:.1}")
        }
    };
    let (low, high) = (percent(interval.low), percent(interval.high));
    if count == 0 || low == "0.0" {
        format!("less than {high} %")
    } else if count == draws || high == "100.0" {
        format!("more than {low} %")
    } else {
        format!("{low}-{high} %")
    }
}

/// The possible ranks of an item.
pub fn ranks(item: &RankedItem) -> String {
    let range = |low: usize, high: usize| match low == high {
        true => grouped(low),
        false => format!("{}-{}", grouped(low), grouped(high)),
    };
    format!(
        "Possible ranks {} (90 % of draws), {} (50 %), median {}",
        range(item.rank_low, item.rank_high),
        range(item.rank_q25, item.rank_q75),
        grouped(item.rank_median)
    )
}

/// Legend of the interval bars.
pub fn legend(draws: usize, sample: Option<usize>, compared: bool) -> String {
    let mut text = format!("possible ranks, 50 % thick, 90 % thin, {} draws", grouped(draws));
    if let Some(sample) = sample {
        text += &format!("; line: rank by sample #{sample}");
    }
    if compared {
        text += "; B dashed";
    }
    text
}

/// The set of items that holds first place in most draws.
pub fn best_match_set(size: usize) -> String {
    match size {
        1 => "One item is the best match in 90 % of the draws".to_owned(),
        _ => format!("One of these {} is the best match in 90 % of the draws", grouped(size)),
    }
}

/// What an undecided pair of neighbours is.
pub fn undecided(above: f32, draws: usize, first: &str, second: &str) -> String {
    let count = (f64::from(above) * draws as f64).round() as usize;
    format!(
        "Undecided: \u{201c}{first}\u{201d} ranks above \u{201c}{second}\u{201d} in {} of {} draws",
        share(count, draws),
        grouped(draws)
    )
}

/// What is known of relevance, in the item's own line of a card.
pub fn relevant() -> String {
    format!("{} Relevant: it belongs to the query in this gallery", icons::CHECK)
}

/// A whole number with commas between groups of three digits.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_never_claim_none_or_all() {
        let bounds = |low, high, count| bounds(Interval { low, high }, count, 64);
        assert_eq!(bounds(0.7, 0.889, 52), "70-89 %");
        assert_eq!(bounds(0.0, 0.0566, 0), "less than 6 %");
        assert_eq!(bounds(0.9434, 1.0, 64), "more than 94 %");
        assert_eq!(bounds(0.0002, 0.0056, 1), "less than 0.6 %");
        assert_eq!(bounds(0.9944, 0.9998, 63), "more than 99.4 %");
    }

    #[test]
    fn long_numbers_are_grouped_from_the_right() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(123_456), "123,456");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }

    #[test]
    fn a_pair_that_splits_evenly_is_told_with_its_draws() {
        let text = undecided(0.52, 1000, "a pear", "a plum");
        assert!(text.ends_with("in 52 % of 1,000 draws"), "{text}");
    }
}

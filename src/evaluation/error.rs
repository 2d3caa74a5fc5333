use crate::distribution::DistributionError;

/// Why a metric is not defined for what it was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    #[error("{what} is empty, expected at least one value: evaluate at least one query")]
    Empty { what: &'static str },
    #[error(
        "{what} has {found} values, expected {expected}: give one value per query, in the same order"
    )]
    Length { what: &'static str, found: usize, expected: usize },
    #[error("{what} of query {index} has {found} dimensions, expected {expected}")]
    Dimensions { what: &'static str, index: usize, found: usize, expected: usize },
    #[error("{what} of query {index} is {found}, expected {expected}")]
    Value { what: &'static str, index: usize, found: f64, expected: &'static str },
    #[error("{what} is {found}, expected at least {least}")]
    TooSmall { what: &'static str, found: usize, least: usize },
    #[error("all values of {what} are equal: a correlation with a constant is not defined")]
    Constant { what: &'static str },
    #[error("image {image} has no caption: leave it out of the image-to-text queries")]
    NoCaption { image: usize },
    #[error("{what} {found} is out of range, expected an id below {count}")]
    UnknownId { what: &'static str, found: usize, count: usize },
    #[error("{what} is {found}, expected {expected}")]
    Setting { what: &'static str, found: f64, expected: &'static str },
    #[error(
        "all queries are {found}, expected right and wrong ones: the area under the ROC curve is \
         not defined, leave it out"
    )]
    OneClass { found: &'static str },
    #[error("query {query} has no relevant item, expected at least one: leave it out")]
    NoRelevant { query: usize },
    #[error(
        "the ranking of query {query} ends after {found} items, expected at least {needed}: rank \
         deeper"
    )]
    Shallow { query: u64, found: usize, needed: usize },
    /// A file of plausible matches cannot be used.
    #[error("{0}")]
    Truth(String),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
}

/// One entry per query on both sides, and at least one query.
pub(super) fn check_pair(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), EvaluationError> {
    if found == 0 && expected == 0 {
        return Err(EvaluationError::Empty { what });
    }
    if found != expected {
        return Err(EvaluationError::Length { what, found, expected });
    }
    Ok(())
}

/// All values are numbers that can be ordered and averaged.
pub(super) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), EvaluationError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(EvaluationError::Value {
            what,
            index,
            found: values[index],
            expected: "a finite number",
        }),
    }
}

/// A count that divides or slices something.
pub(super) fn check_at_least(
    what: &'static str,
    found: usize,
    least: usize,
) -> Result<(), EvaluationError> {
    if found < least {
        return Err(EvaluationError::TooSmall { what, found, least });
    }
    Ok(())
}

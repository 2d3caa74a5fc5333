//! Recall@k: the share of queries with a relevant item among the first k.

use super::EvaluationError;
use super::error::check_at_least;

/// Rank of the first caption of its own image, for each image query.
///
/// `rankings[i]` lists caption ids, best first, for image `i`; it may be cut anywhere.
/// `image_of_caption[j]` is the image that caption `j` belongs to; an image may have any number
/// of captions. The rank is 0 for the first place and `None` when the list holds no own caption.
///
/// # Errors
/// When an image has no caption at all (its recall is not defined), or a list holds an id that is
/// no caption.
pub fn image_to_text_ranks<R>(
    rankings: impl IntoIterator<Item = R>,
    image_of_caption: &[usize],
) -> Result<Vec<Option<usize>>, EvaluationError>
where
    R: IntoIterator<Item = usize>,
{
    let image_count = image_of_caption.iter().max().map_or(0, |&image| image + 1);
    let mut has_caption = vec![false; image_count];
    for &image in image_of_caption {
        has_caption[image] = true;
    }
    let rank_of_query = |(image, ranking): (usize, R)| {
        if !has_caption.get(image).copied().unwrap_or(false) {
            return Err(EvaluationError::NoCaption { image });
        }
        for (rank, caption) in ranking.into_iter().enumerate() {
            let owner = *image_of_caption.get(caption).ok_or(EvaluationError::UnknownId {
                what: "caption",
                found: caption,
                count: image_of_caption.len(),
            })?;
            if owner == image {
                return Ok(Some(rank));
            }
        }
        Ok(None)
    };
    rankings.into_iter().enumerate().map(rank_of_query).collect()
}

/// Rank of its own image, for each caption query.
///
/// `rankings[j]` lists image ids, best first, for caption `j`; it may be cut anywhere. The rank
/// is 0 for the first place and `None` when the list does not hold the image.
///
/// # Errors
/// When there are more lists than captions.
pub fn text_to_image_ranks<R>(
    rankings: impl IntoIterator<Item = R>,
    image_of_caption: &[usize],
) -> Result<Vec<Option<usize>>, EvaluationError>
where
    R: IntoIterator<Item = usize>,
{
    let rank_of_query = |(caption, ranking): (usize, R)| {
        let own = *image_of_caption.get(caption).ok_or(EvaluationError::UnknownId {
            what: "caption",
            found: caption,
            count: image_of_caption.len(),
        })?;
        Ok(ranking.into_iter().position(|image| image == own))
    };
    rankings.into_iter().enumerate().map(rank_of_query).collect()
}

/// For each query, whether its first relevant item is among the first `k`.
///
/// `ranks` holds the rank of the first relevant item, 0 for the first place, `None` when it was
/// not found.
pub fn hits_at_k(ranks: &[Option<usize>], k: usize) -> Vec<bool> {
    ranks.iter().map(|rank| rank.is_some_and(|rank| rank < k)).collect()
}

/// Share of queries in `0..=1` whose first relevant item is among the first `k`.
///
/// # Errors
/// When there is no query, or `k` is 0.
pub fn recall_at_k(ranks: &[Option<usize>], k: usize) -> Result<f64, EvaluationError> {
    check_at_least("k of recall@k", k, 1)?;
    if ranks.is_empty() {
        return Err(EvaluationError::Empty { what: "the list of ranks" });
    }
    let hits = hits_at_k(ranks, k).into_iter().filter(|&hit| hit).count();
    Ok(hits as f64 / ranks.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Image 0 has three captions, image 1 has one, image 2 has two, in mixed order.
    const IMAGE_OF_CAPTION: [usize; 6] = [2, 0, 0, 1, 2, 0];

    #[test]
    fn an_image_hits_with_any_of_its_captions() {
        let rankings = [vec![3, 4, 5, 1], vec![3], vec![0, 4]];
        let ranks = image_to_text_ranks(rankings, &IMAGE_OF_CAPTION).unwrap();
        assert_eq!(ranks, [Some(2), Some(0), Some(0)]);
        assert_eq!(recall_at_k(&ranks, 1).unwrap(), 2.0 / 3.0);
        assert_eq!(recall_at_k(&ranks, 2).unwrap(), 2.0 / 3.0);
        assert_eq!(recall_at_k(&ranks, 3).unwrap(), 1.0);
    }

    #[test]
    fn a_caption_hits_with_its_own_image_only() {
        let rankings = [vec![0, 1], vec![0, 1], vec![1, 0], vec![0, 2], vec![2], vec![]];
        let ranks = text_to_image_ranks(rankings, &IMAGE_OF_CAPTION).unwrap();
        assert_eq!(ranks, [None, Some(0), Some(1), None, Some(0), None]);
        assert_eq!(hits_at_k(&ranks, 1), [false, true, false, false, true, false]);
        assert_eq!(recall_at_k(&ranks, 2).unwrap(), 0.5);
    }

    #[test]
    fn undefined_recall_is_an_error_and_not_a_number() {
        assert!(matches!(recall_at_k(&[], 1), Err(EvaluationError::Empty { .. })));
        assert!(matches!(recall_at_k(&[Some(0)], 0), Err(EvaluationError::TooSmall { .. })));
        let gap = image_to_text_ranks([vec![0], vec![0], vec![0]], &[0, 2]);
        assert_eq!(gap, Err(EvaluationError::NoCaption { image: 1 }));
        let foreign = image_to_text_ranks([vec![9]], &[0]);
        assert!(matches!(foreign, Err(EvaluationError::UnknownId { found: 9, count: 1, .. })));
        assert!(text_to_image_ranks([vec![0], vec![0]], &[0]).is_err());
    }
}

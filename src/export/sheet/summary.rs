//! The pinned tiles (query image, mean) and the numbers that sum a result up.

use super::{Align, Area, BODY_SIZE, Canvas, SMALL_SIZE, colour, share};
use crate::encoder::Modality;
use crate::session::recipe::Bridge;
use crate::session::result::QueryResult;

/// Smallest width the numbers need beside the pinned tiles.
pub const WIDTH: u32 = 640;

const TILE: u32 = 172;
const LINE: u32 = 24;

pub fn height(_result: &QueryResult) -> u32 {
    TILE + 20
}

/// How the query became images, in one line.
pub fn route(result: &QueryResult) -> String {
    let sampling = &result.recipe.sampling;
    let note = result.recipe.models.bridge.note();
    let density = match (result.recipe.query.modality(), result.space) {
        _ if note.is_some() => "p(prompt embedding | text)",
        (Modality::Text, Modality::Image) => "p(image embedding | text)",
        (_, Modality::Text) => "p(text embedding)",
        (Modality::Image, Modality::Image) => "p(image embedding)",
    };
    let bridge = match result.recipe.models.bridge {
        Bridge::CrossModal | Bridge::None => String::new(),
        Bridge::PromptEmbeddings => note.map_or_else(String::new, |note| format!(": {note}")),
        Bridge::Prior => " by the diffusion prior".to_owned(),
        bridge => format!(", carried to image space by {bridge}"),
    };
    let temperature = if sampling.temperature == 1.0 {
        String::new()
    } else {
        format!(", temperature {}", sampling.temperature)
    };
    let decoding = &result.recipe.decoding;
    let decoder = if result.tiles.is_empty() {
        String::new()
    } else {
        let noised = match note {
            Some(_) => String::new(),
            None => format!(", noise level {}", decoding.noise_level),
        };
        format!(
            "  \u{00b7}  {} steps, guidance {}{noised}",
            decoding.steps, decoding.guidance_scale
        )
    };
    format!("draws from {density}{bridge}  \u{00b7}  seed {}{temperature}{decoder}", sampling.seed)
}

pub fn draw(canvas: &mut Canvas, result: &QueryResult, area: Area) {
    let mut x = area.x;
    if let Some(image) = &result.query_image {
        pinned(canvas, image, "query", (x, area.y));
        x += TILE + 8;
    }
    if let Some(mean) = &result.mean_tile {
        pinned(canvas, &mean.image, "mean (not a typical draw)", (x, area.y));
        x += TILE + 8;
    }
    if x > area.x {
        x += 16;
    }
    let mut y = area.y + 2;
    for (label, value) in lines(result) {
        let width = area.right() - x;
        canvas.text(&label, (x, y), BODY_SIZE, colour::MUTED_TEXT, Align::Left);
        let left = x + canvas.text_width(&label, BODY_SIZE) + 8;
        let value = canvas.fit(&value, BODY_SIZE, width.saturating_sub(left - x));
        canvas.text(&value, (left, y), BODY_SIZE, colour::STRONG_TEXT, Align::Left);
        y += LINE;
    }
}

fn pinned(canvas: &mut Canvas, image: &image::RgbImage, label: &str, (x, y): (u32, u32)) {
    let area = Area::new(x, y, TILE, TILE);
    canvas.fill(area, colour::PANEL);
    canvas.paste(image, area);
    canvas.frame(area, colour::ACCENT);
    canvas.text(label, (x, y + TILE + 3), SMALL_SIZE, colour::TEXT, Align::Left);
}

/// "1 item", "5 items".
pub fn items(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

/// Label and value of every line beside the pinned tiles.
fn lines(result: &QueryResult) -> Vec<(String, String)> {
    let aleatoric = result.distribution.mean_aleatoric();
    let (aleatoric, epistemic) = match result.recipe.models.bridge {
        Bridge::Prior => (
            format!(
                "{aleatoric:.4}  empirical, {} samples of the prior",
                result.draws.values.len()
            ),
            "not estimated for a prior".to_owned(),
        ),
        _ => (
            format!("{aleatoric:.4}  mean variance per dimension"),
            format!(
                "{:.4}  by {} dropout passes",
                result.distribution.mean_epistemic(),
                result.recipe.sampling.dropout_passes
            ),
        ),
    };
    let mut lines = vec![("aleatoric".to_owned(), aleatoric), ("epistemic".to_owned(), epistemic)];
    if let Some(reference) = &result.reference {
        let kind = match result.recipe.query.modality() {
            Modality::Text => "captions",
            Modality::Image => "images",
        };
        lines.push((
            "more uncertain than".to_owned(),
            format!(
                "{:.0} % of this gallery's {} {kind}",
                100.0 * reference.share_below,
                reference.count
            ),
        ));
    }
    if let Some(retrieved) = &result.retrieval {
        lines.push((
            "best match".to_owned(),
            format!(
                "among {} in 90 % of {} draws",
                items(retrieved.best_match_set),
                retrieved.draws
            ),
        ));
        if let Some(first) = retrieved.items.first() {
            lines.push((
                "first hit of the mean".to_owned(),
                format!("is first in {}", share(first.top_1_count, retrieved.draws)),
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::figures::tests::result;

    #[test]
    fn samples_of_prompt_embeddings_are_called_so() {
        let mut result = result();
        let shared = route(&result);
        assert!(!shared.contains("prompt"), "{shared}");
        result.recipe.models.bridge = Bridge::PromptEmbeddings;
        let prompt = route(&result);
        assert!(prompt.contains("samples of prompt embeddings, not of the shared space"));
        assert!(!prompt.contains("noise level"), "{prompt}");
    }
}

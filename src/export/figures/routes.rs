//! How well each route from a text reaches image space.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::intervals::{self, Row};
use super::page::{BODY, Page};
use super::table::Table;
use crate::evaluation::Estimate;
use crate::export::canvas::colour;
use crate::session::recipe::Recipe;
use crate::session::studies::routes::{ItemScores, Routes, Scores, TOP_K};

/// Name of the row of the images themselves.
const CEILING: &str = "the image itself";

pub fn draw(routes: &Routes, recipe: Option<&Recipe>) -> Drawing {
    let mut page = Page::new(
        "Routes from text to image space",
        &format!(
            "{} captions of {} ({} images), {} samples each, decoded and embedded again. All routes \
             have the same captions and decoder noise.",
            routes.items, routes.gallery, routes.gallery_size, routes.samples
        ),
    );
    let rows = named(routes);
    part(
        &mut page,
        &rows,
        "Similarity: cosine between a picture, embedded again, and the true image",
        |label, values| AxisSpec::around(label, values),
        |item| Some(item.similarity),
        &[
            ("mean", |scores| with_interval(&scores.similarity, 3)),
            ("before decoding", |scores| format!("{:.3}", scores.given_similarity.value)),
            ("of the mean", |scores| format!("{:.3}", scores.mean_similarity.value)),
        ],
    );
    let last = routes.gallery_size;
    part(
        &mut page,
        &rows,
        "Rank of the true image when the gallery is searched by the picture (log)",
        move |label, _| AxisSpec::ranks(label, last),
        |item| Some(item.rank),
        &[
            ("median", |scores| with_interval(&scores.rank, 1)),
            ("in the top 10", |scores| format!("{:.0} %", 100.0 * scores.top_k.value)),
        ],
    );
    let diverse: Vec<(String, &Scores)> =
        rows.into_iter().filter(|(_, scores)| scores.diversity.is_some()).collect();
    part(
        &mut page,
        &diverse,
        "Diversity: mean cosine distance between two pictures of one caption, embedded again",
        |label, values| AxisSpec::from_zero(label, values),
        |item| item.diversity,
        &[("mean", |scores| {
            scores.diversity.as_ref().map_or(String::new(), |d| with_interval(d, 3))
        })],
    );
    let mut lines = vec![format!(
        "Dot: median; thick: middle 50 %; thin: middle 90 % of the captions. In brackets: 95 % \
         bootstrap intervals over captions. Before decoding: what the decoder was given; of the mean: \
         the distribution's mean in its place, which tells where a route with a wide distribution \
         aims. For {CEILING} its own embedding is decoded: that is what the decoder loses."
    )];
    for left_out in &routes.left_out {
        lines.push(format!("Left out: {}: {}.", left_out.route.route(), left_out.reason));
    }
    lines.extend(
        recipe.map(|recipe| format!("Seed {}. {}", recipe.sampling.seed, caption::models(recipe))),
    );
    page.finish(&lines)
}

/// Heading and text of a column beside the rows.
type Cell = (&'static str, fn(&Scores) -> String);
/// One of a route's scores.
type Score = fn(&Scores) -> Option<Estimate>;
/// Ending of a column's name, and the part of an estimate in it.
type Part = (&'static str, fn(Estimate) -> f64);

/// One score of all routes below its title.
fn part(
    page: &mut Page,
    rows: &[(String, &Scores)],
    title: &str,
    axis: impl Fn(&str, std::vec::IntoIter<f64>) -> AxisSpec,
    value: fn(&ItemScores) -> Option<f64>,
    cells: &[Cell],
) {
    page.paragraph(title, BODY);
    page.y += 4.0;
    let headings: Vec<String> = cells.iter().map(|(name, _)| (*name).to_owned()).collect();
    let drawn: Vec<Row> = rows
        .iter()
        .filter_map(|(name, scores)| {
            Some(Row {
                name: name.clone(),
                quantiles: scores.quantiles(value)?,
                cells: cells.iter().map(|(_, cell)| cell(scores)).collect(),
            })
        })
        .collect();
    let ends: Vec<f64> = drawn.iter().flat_map(|row| row.quantiles).collect();
    let axis = axis("", ends.into_iter());
    intervals::draw(page, &axis, &headings, &drawn, colour::ALEATORIC);
    page.y += 8.0;
}

fn with_interval(estimate: &Estimate, digits: usize) -> String {
    let Estimate { value, low, high } = estimate;
    format!("{value:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// The routes and the ceiling, each with its name.
fn named(routes: &Routes) -> Vec<(String, &Scores)> {
    let named = routes.routes.iter().map(|route| (route.route.route().to_owned(), &route.scores));
    named.chain(routes.ceiling.iter().map(|scores| (CEILING.to_owned(), scores))).collect()
}

pub fn table(routes: &Routes) -> Table {
    let rows = named(routes);
    let file = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map_or(String::new(), |path| path.display().to_string())
    };
    let ceiling = || routes.ceiling.iter().map(|_| String::new());
    let mut table = Table::default()
        .text("route", rows.iter().map(|(name, _)| name.clone()))
        .text("adapter", routes.routes.iter().map(|route| file(&route.adapter)).chain(ceiling()))
        .text("model", routes.routes.iter().map(|route| file(&route.model)).chain(ceiling()))
        .whole("captions", rows.iter().map(|(_, scores)| scores.each.len()));
    let top = format!("share_in_top_{TOP_K}");
    let columns: [(&str, Score); 6] = [
        ("similarity", |s| Some(s.similarity)),
        ("given_similarity", |s| Some(s.given_similarity)),
        ("mean_similarity", |s| Some(s.mean_similarity)),
        ("median_rank", |s| Some(s.rank)),
        (&top, |s| Some(s.top_k)),
        ("diversity", |s| s.diversity),
    ];
    for (name, of) in columns {
        let parts: [Part; 3] = [("", |e| e.value), ("_low", |e| e.low), ("_high", |e| e.high)];
        for (suffix, part) in parts {
            let values = rows.iter().map(|(_, scores)| of(scores).map_or(f64::NAN, part));
            table = table.numbers(&format!("{name}{suffix}"), values);
        }
    }
    table
}

//! What the marks on the map mean.

use egui::{Color32, CornerRadius, FontId, Rect, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use crate::app::gpu::points::{self, Shape};
use crate::app::panes::{Cx, axes};

/// One line of the legend.
pub struct Line {
    pub shape: Shape,
    pub radius: f32,
    pub outline: Option<f32>,
    pub colour: Color32,
    pub text: String,
}

impl Line {
    pub fn new(shape: Shape, radius: f32, colour: Color32, text: impl Into<String>) -> Self {
        Self { shape, radius, outline: None, colour, text: text.into() }
    }

    pub fn outlined(mut self, width: f32) -> Self {
        self.outline = Some(width);
        self
    }
}

/// Draws the lines in the upper left corner of the map; those that do not fit are left out.
pub fn show(ui: &Ui, cx: &Cx<'_>, map: Rect, lines: &[Line]) {
    const ROW: f32 = 16.0;
    let theme = cx.theme;
    let painter = ui.painter_at(map.intersect(ui.clip_rect()));
    let room = ((map.height() * 0.7 - 12.0) / ROW).max(0.0) as usize;
    let width = (map.width() * 0.6).min(230.0);
    let font = FontId::proportional(axes::AXIS_TEXT);
    let galleys: Vec<_> = lines
        .iter()
        .take(room)
        .map(|line| axes::line(&painter, &line.text, font.clone(), theme.text, width - 26.0))
        .collect();
    let widest = galleys.iter().map(|galley| galley.size().x).fold(0.0, f32::max);
    if galleys.is_empty() {
        return;
    }
    let size = vec2(widest + 30.0, galleys.len() as f32 * ROW + 8.0);
    let frame = Rect::from_min_size(map.left_top() + vec2(6.0, 6.0), size);
    painter.rect(
        frame,
        CornerRadius::same(4),
        theme.raised.gamma_multiply(0.88),
        Stroke::new(1.0, theme.hairline),
        StrokeKind::Inside,
    );
    let mut whole = String::new();
    for (i, (line, galley)) in lines.iter().zip(galleys).enumerate() {
        let y = frame.top() + 4.0 + (i as f32 + 0.5) * ROW;
        let centre = pos2(frame.left() + 13.0, y);
        points::mark(&painter, centre, line.radius, line.shape, line.colour, line.outline);
        painter.galley(pos2(frame.left() + 24.0, y - galley.size().y * 0.5), galley, theme.text);
        whole += &format!("{}{}", if i > 0 { "\n" } else { "" }, line.text);
    }
    let id = ui.scope_id().with("legend of the map");
    ui.interact(frame, id, Sense::hover()).on_hover_text(whole);
}

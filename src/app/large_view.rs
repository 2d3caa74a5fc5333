//! One tile as large as the window allows, with its numbers beside it, and the same tile of the
//! compared query next to it, over it, or in turn with it.
//!
//! In comes the enlarged item; out go the item to go on to, or the wish to close. The order of the
//! samples is the grid's.

use egui::{
    Align, Align2, Button, Color32, FontId, Frame, Id, Key, Layout, Modal, Modifiers, Painter,
    Rect, RichText, ScrollArea, Sense, Stroke, StrokeKind, Ui, UiBuilder, Vec2, pos2, vec2,
};

use super::action::Action;
use super::icons;
use super::panes::Cx;
use super::panes::samples::picture::{self, Picture, whole};
use super::panes::samples::statistics::{self, MEAN_NAME};
use super::panes::samples::{menu, tile};
use super::state::history::Entry;
use super::state::sample_order::ShownSamples;
use super::state::selection::Item;
use super::theme;

const HEADER: f32 = 28.0;
const SIDE: f32 = 256.0;
const MARGIN: f32 = 12.0;
/// Windows narrower than this have the numbers below the picture.
const NARROW: f32 = 640.0;
const MAX_SCALE: f32 = 64.0;
/// Pictures up to this edge are enlarged with square pixels.
const PIXEL_ART: u32 = 256;

/// How two pictures are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    SideBySide,
    Slider,
    Flicker,
}

impl Mode {
    const ALL: [(Mode, &'static str, &'static str); 3] = [
        (Mode::SideBySide, "Side by side", "A at the left, B at the right"),
        (Mode::Slider, "Slider", "A left of a line that can be dragged, B right of it"),
        (Mode::Flicker, "Flicker", "Shows A, and B while the space bar is held"),
    ];
}

/// Zoom and pan, shared by both pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Zoom {
    /// 1 fits the picture into its frame.
    scale: f32,
    /// Where the picture's centre is, from the frame's centre, in pictures.
    offset: Vec2,
}

impl Default for Zoom {
    fn default() -> Self {
        Self { scale: 1.0, offset: Vec2::ZERO }
    }
}

impl Zoom {
    /// The rectangle of a picture that has the size `fit` at scale 1.
    fn place(&self, frame: Rect, fit: Vec2) -> Rect {
        let size = fit * self.scale;
        Rect::from_center_size(frame.center() + self.offset * size, size)
    }

    /// Scales by a factor; the point `at`, from the frame's centre, stays where it is.
    fn by(&mut self, factor: f32, at: Vec2, fit: Vec2) {
        let before = fit * self.scale;
        self.scale = (self.scale * factor).clamp(1.0, MAX_SCALE);
        let after = fit * self.scale;
        let point = at / before - self.offset;
        self.offset = at / after - point;
        self.settle();
    }

    fn pan(&mut self, by: Vec2, fit: Vec2) {
        self.offset += by / (fit * self.scale);
        self.settle();
    }

    /// Keeps the picture over the frame's centre.
    fn settle(&mut self) {
        let limit = 0.5 * (1.0 - 1.0 / self.scale);
        self.offset = self.offset.clamp(Vec2::splat(-limit), Vec2::splat(limit));
    }
}

/// View state of the large view.
pub struct LargeView {
    shown: ShownSamples,
    mode: Mode,
    zoom: Zoom,
    /// Place of the slider's line, 0 to 1 across the frame.
    split: f32,
    /// The button that shows B is held down.
    held: bool,
    open: bool,
}

impl Default for LargeView {
    fn default() -> Self {
        Self {
            shown: ShownSamples::default(),
            mode: Mode::default(),
            zoom: Zoom::default(),
            split: 0.5,
            held: false,
            open: false,
        }
    }
}

/// One side of the view.
struct Side {
    picture: Option<Picture>,
    /// Stands where there is no picture.
    words: String,
}

impl LargeView {
    pub fn ui(&mut self, ctx: &egui::Context, cx: &mut Cx<'_>) {
        let state = cx.state;
        let (Some(item), Some(entry)) = (state.enlarged, state.entry()) else {
            if state.enlarged.is_some() {
                cx.send(Action::Enlarge(None));
            }
            self.open = false;
            return;
        };
        if !self.open {
            // The zoom is kept from tile to tile, not from one opening to the next.
            self.zoom = Zoom::default();
            self.open = true;
        }
        let sequence = self.sequence(entry, item, cx);
        let steps = self.keys(ctx);
        let window = ctx.content_rect();
        let fill = cx.theme.window;
        let modal =
            Modal::new(Id::unique("large view")).backdrop_color(fill).frame(Frame::NONE.fill(fill));
        let response = modal.show(ctx, |ui| {
            ui.set_min_size(window.size());
            self.contents(ui, cx, window.shrink(MARGIN), entry, item, &sequence);
        });
        if let Some(next) = neighbour(&sequence, item, steps) {
            cx.send(Action::Enlarge(Some(next)));
        }
        if response.should_close() {
            cx.send(Action::Enlarge(None));
        }
    }

    /// What the arrow keys go through: the tiles in the grid's order, or the retrieved items.
    fn sequence(&mut self, entry: &Entry, item: Item, cx: &Cx<'_>) -> Vec<Item> {
        match item {
            Item::Gallery(_) => {
                let retrieved = entry.result.as_ref().and_then(|r| r.retrieval.as_ref());
                let rows = retrieved.iter().flat_map(|r| &r.items);
                rows.map(|ranked| Item::Gallery(ranked.row)).collect()
            }
            Item::Dimension(_) => vec![item],
            Item::Query | Item::Mean | Item::Sample(_) => {
                let shown = self.shown.of(entry, &cx.state.settings.sample_order);
                let samples = shown.iter().map(|&index| Item::Sample(index));
                [Item::Query, Item::Mean].into_iter().chain(samples).collect()
            }
        }
    }

    /// Steps asked for by keys: taken before any button can see them.
    fn keys(&self, ctx: &egui::Context) -> Step {
        if ctx.text_edit_focused() {
            // The palette is open over the view.
            return Step::Stay;
        }
        ctx.input_mut(|input| {
            let mut pressed = |key| input.consume_key(Modifiers::NONE, key);
            if self.mode == Mode::Flicker {
                // Held for B, not to press the focused button.
                pressed(Key::Space);
            }
            if pressed(Key::ArrowLeft) || pressed(Key::ArrowUp) {
                Step::Back
            } else if pressed(Key::ArrowRight) || pressed(Key::ArrowDown) {
                Step::On
            } else if pressed(Key::Home) {
                Step::First
            } else if pressed(Key::End) {
                Step::Last
            } else {
                Step::Stay
            }
        })
    }

    fn contents(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        area: Rect,
        entry: &Entry,
        item: Item,
        sequence: &[Item],
    ) {
        let other = cx.state.other().filter(|other| other.id != entry.id && pairs(item, other));
        let narrow = area.width() < NARROW;
        // Two rows where one has no room for the modes.
        let header_height = if narrow && other.is_some() { 2.0 * HEADER + 4.0 } else { HEADER };
        let (header, below) = area.split_top_bottom_at_y(area.top() + header_height);
        let below = Rect::from_min_max(below.min + vec2(0.0, 8.0), below.max);
        let (canvas, side) = if narrow {
            let height = (0.4 * below.height()).min(200.0);
            below.split_top_bottom_at_y(below.bottom() - height)
        } else {
            below.split_left_right_at_x(below.right() - SIDE)
        };
        let gap = if narrow { vec2(0.0, MARGIN) } else { vec2(MARGIN, 0.0) };
        let canvas = Rect::from_min_max(canvas.min, canvas.max - gap);

        ui.scope_builder(UiBuilder::new().max_rect(header), |ui| {
            self.header(ui, cx, entry, item, sequence, other.is_some(), narrow);
        });
        ui.scope_builder(UiBuilder::new().max_rect(canvas), |ui| {
            self.canvas(ui, cx, canvas, entry, other, item);
        });
        ui.scope_builder(UiBuilder::new().max_rect(side), |ui| {
            ui.set_clip_rect(side.intersect(ui.clip_rect()));
            ScrollArea::vertical().id_salt("large view numbers").auto_shrink(false).show(
                ui,
                |ui| {
                    numbers(ui, cx, entry, other, item);
                },
            );
        });
    }

    #[expect(clippy::too_many_arguments)]
    fn header(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        entry: &Entry,
        item: Item,
        sequence: &[Item],
        compared: bool,
        narrow: bool,
    ) {
        ui.allocate_ui_with_layout(
            vec2(ui.available_width(), HEADER),
            Layout::right_to_left(Align::Center),
            |ui| {
                if ui.button(icons::X).on_hover_text("Close (Esc)").clicked() {
                    cx.send(Action::Enlarge(None));
                }
                for (icon, tip, step) in [
                    (icons::ARROW_RIGHT, "Next tile (right arrow)", Step::On),
                    (icons::ARROW_LEFT, "Previous tile (left arrow)", Step::Back),
                ] {
                    let next = neighbour(sequence, item, step);
                    let button = ui.add_enabled(next.is_some(), Button::new(icon));
                    if button.on_hover_text(tip).on_disabled_hover_text(tip).clicked() {
                        cx.send(Action::Enlarge(next));
                    }
                }
                let zoomed = self.zoom != Zoom::default();
                let tip = "Shows the whole picture (double-click)";
                let fit = ui.add_enabled(zoomed, Button::new("Fit"));
                if fit.on_hover_text(tip).on_disabled_hover_text(tip).clicked() {
                    self.zoom = Zoom::default();
                }
                if compared && !narrow {
                    ui.separator();
                    // Laid out from the right.
                    for (mode, name, tip) in Mode::ALL.into_iter().rev() {
                        ui.selectable_value(&mut self.mode, mode, name).on_hover_text(tip);
                    }
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    let heading = RichText::new(title(entry, item)).heading();
                    ui.add(egui::Label::new(heading).truncate());
                });
            },
        );
        if compared && narrow {
            ui.horizontal(|ui| {
                for (mode, name, tip) in Mode::ALL {
                    ui.selectable_value(&mut self.mode, mode, name).on_hover_text(tip);
                }
            });
        }
    }

    fn canvas(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        area: Rect,
        entry: &Entry,
        other: Option<&Entry>,
        item: Item,
    ) {
        let density = ui.pixels_per_point();
        let side = |cx: &mut Cx<'_>, entry| side(cx, entry, item, area, density);
        let a = side(cx, entry);
        let b = other.map(|other| side(cx, other));
        let response = ui.interact(area, ui.scope_id().with("canvas"), Sense::click_and_drag());
        let frames = self.frames(area, b.is_some());
        let fit = fit_size(&a, frames[0], density);
        self.pointer(ui, &response, &frames, fit);
        ui.painter().rect_filled(area, 4, cx.theme.panel);
        let Some(b) = b else {
            self.paint(ui, cx, &a, area, area, None);
            return;
        };
        match self.mode {
            Mode::SideBySide => {
                self.paint(ui, cx, &a, frames[0], frames[0], Some("A"));
                self.paint(ui, cx, &b, frames[1], frames[1], Some("B"));
            }
            Mode::Slider => {
                let x = egui::lerp(area.x_range(), self.split);
                let (left, right) = area.split_left_right_at_x(x);
                self.paint(ui, cx, &a, area, left, Some("A"));
                self.paint(ui, cx, &b, area, right, None);
                let corner = pos2(area.right() - 24.0, area.top());
                tile::badge(ui.painter(), cx.theme, corner, "B");
                self.slider_line(ui, cx, area, x);
            }
            Mode::Flicker => {
                let held = self.held || ui.input(|input| input.key_down(Key::Space));
                let (side, letter) = if held { (&b, "B") } else { (&a, "A") };
                self.paint(ui, cx, side, area, area, Some(letter));
                let place = Rect::from_center_size(
                    area.center_bottom() - vec2(0.0, 20.0),
                    vec2(200.0_f32.min(area.width()), 24.0),
                );
                let button = ui
                    .put(place, Button::new("Hold to see B"))
                    .on_hover_text("The space bar does the same");
                let down = button.is_pointer_button_down_on();
                if down != self.held {
                    self.held = down;
                    ui.ctx().request_repaint();
                }
            }
        }
    }

    /// The frames that pictures are fitted into.
    fn frames(&self, area: Rect, compared: bool) -> Vec<Rect> {
        if compared && self.mode == Mode::SideBySide {
            let (mut left, mut right) = area.split_left_right_at_fraction(0.5);
            left.max.x -= 4.0;
            right.min.x += 4.0;
            vec![left, right]
        } else {
            vec![area]
        }
    }

    /// Zooms by the wheel or a pinch, pans by dragging.
    fn pointer(&mut self, ui: &Ui, response: &egui::Response, frames: &[Rect], fit: Vec2) {
        if response.double_clicked() {
            self.zoom = Zoom::default();
        }
        if response.dragged() {
            self.zoom.pan(response.drag_delta(), fit);
        }
        let Some(pointer) = response.hover_pos() else { return };
        let factor =
            ui.input(|input| input.zoom_delta() * (input.smooth_scroll_delta().y / 200.0).exp());
        if factor != 1.0 {
            let frame = frames.iter().find(|frame| frame.contains(pointer)).unwrap_or(&frames[0]);
            self.zoom.by(factor, pointer - frame.center(), fit);
        }
    }

    /// Paints one side into `frame`, cut to `visible`.
    fn paint(
        &self,
        ui: &Ui,
        cx: &Cx<'_>,
        side: &Side,
        frame: Rect,
        visible: Rect,
        letter: Option<&str>,
    ) {
        let painter = ui.painter().with_clip_rect(visible.intersect(ui.clip_rect()));
        match &side.picture {
            Some(picture) => {
                let fit = fit_size(side, frame, ui.pixels_per_point());
                let place = self.zoom.place(frame, fit);
                painter.image(picture.texture.id(), place, whole(), Color32::WHITE);
                let mut note = format!("{} × {} px", picture.size[0], picture.size[1]);
                if picture.unfinished {
                    note += ", unfinished: do not judge from it";
                }
                let at = pos2(visible.left() + 8.0, visible.bottom() - 8.0);
                label(&painter, cx, at, Align2::LEFT_BOTTOM, &note);
            }
            None => {
                let width = (frame.width() - 32.0).clamp(80.0, 480.0);
                let galley = painter.layout(
                    side.words.clone(),
                    FontId::proportional(16.0),
                    cx.theme.text,
                    width,
                );
                let corner = frame.center() - galley.size() / 2.0;
                painter.galley(corner, galley, cx.theme.text);
            }
        }
        if let Some(letter) = letter {
            tile::badge(&painter, cx.theme, visible.left_top(), letter);
        }
    }

    /// The line between A and B.
    fn slider_line(&mut self, ui: &Ui, cx: &Cx<'_>, area: Rect, x: f32) {
        let grip = Rect::from_x_y_ranges(x - 8.0..=x + 8.0, area.y_range());
        let response = ui
            .interact(grip, ui.scope_id().with("split"), Sense::click_and_drag())
            .on_hover_cursor(egui::CursorIcon::ResizeHorizontal);
        response.widget_info(|| {
            let percent = f64::from(100.0 * self.split);
            egui::WidgetInfo::slider(ui.is_enabled(), percent, "line between A and B")
        });
        if response.dragged()
            && let Some(pointer) = response.interact_pointer_pos()
        {
            self.split = ((pointer.x - area.left()) / area.width().max(1.0)).clamp(0.0, 1.0);
        }
        let painter = ui.painter();
        painter.vline(x, area.y_range(), Stroke::new(3.0, cx.theme.window));
        painter.vline(x, area.y_range(), Stroke::new(1.0, cx.theme.strong));
        let knob = pos2(x, area.center().y);
        let edge = if response.hovered() || response.has_focus() {
            cx.theme.accent
        } else {
            cx.theme.edge
        };
        painter.circle(knob, 8.0, cx.theme.panel, Stroke::new(2.0, edge));
    }
}

/// Where to go from a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Stay,
    Back,
    On,
    First,
    Last,
}

/// The item that a step leads to; `None` when it leads nowhere else. From an item that the order
/// does not show, every step leads to its beginning.
fn neighbour(sequence: &[Item], item: Item, step: Step) -> Option<Item> {
    let at = sequence.iter().position(|&other| other == item);
    let next = match (step, at) {
        (Step::Stay, _) => None,
        (_, None) => sequence.first(),
        (Step::Back, Some(at)) => sequence.get(at.checked_sub(1)?),
        (Step::On, Some(at)) => sequence.get(at + 1),
        (Step::First, _) => sequence.first(),
        (Step::Last, _) => sequence.last(),
    };
    next.copied().filter(|&next| next != item)
}

/// Whether another entry has a counterpart of an item.
fn pairs(item: Item, other: &Entry) -> bool {
    match item {
        Item::Query => true,
        _ => picture::tile(other, item).is_some(),
    }
}

/// What two tiles of the same index have in common.
fn pairing(a: &Entry, b: &Entry) -> &'static str {
    let same_noise = a.recipe.sampling.seed == b.recipe.sampling.seed
        && a.recipe.decoding.independent_noise == b.recipe.decoding.independent_noise;
    if same_noise {
        "Paired: both tiles have the same index and start from the same noise."
    } else {
        "Same index, but not the same noise: part of the difference is luck. Give both the same \
         seed to compare them tile by tile."
    }
}

fn title(entry: &Entry, item: Item) -> String {
    match item {
        Item::Query => format!("query “{}”", entry.title()),
        Item::Mean => format!("{MEAN_NAME} of “{}”", entry.title()),
        Item::Gallery(row) => {
            let retrieved = entry.result.as_ref().and_then(|r| r.retrieval.as_ref());
            match retrieved.and_then(|r| r.names.get(&row)) {
                Some(name) => name.caption.clone().unwrap_or_else(|| name.image.clone()),
                None => statistics::name(item),
            }
        }
        other => format!("{} of “{}”", statistics::name(other), entry.title()),
    }
}

fn side(cx: &mut Cx<'_>, entry: &Entry, item: Item, area: Rect, pixels_per_point: f32) -> Side {
    let small = picture::pixels(entry, item)
        .is_none_or(|image| image.width().max(image.height()) <= PIXEL_ART);
    // At its full size: it can be zoomed into.
    let edge = area.size().max_elem() * MAX_SCALE;
    let picture = picture::picture(cx, entry, item, edge, pixels_per_point, small);
    let words = match item {
        Item::Query => format!("“{}”", entry.title()),
        _ => "No picture yet: this tile has not been decoded.".to_owned(),
    };
    Side { picture, words }
}

/// Size in points that a picture is shown at when it is not zoomed. Small pictures are enlarged
/// by whole numbers of pixels, so that every pixel is equally large.
fn fit_size(side: &Side, frame: Rect, pixels_per_point: f32) -> Vec2 {
    let Some(picture) = &side.picture else { return frame.size() };
    let size = vec2(picture.size[0].max(1) as f32, picture.size[1].max(1) as f32);
    size * fit_scale(size, frame.size(), pixels_per_point)
}

/// Points per pixel of a picture.
fn fit_scale(size: Vec2, frame: Vec2, pixels_per_point: f32) -> f32 {
    let scale = (frame / size).min_elem().max(f32::MIN_POSITIVE);
    let pixels = scale * pixels_per_point;
    if size.max_elem() <= PIXEL_ART as f32 && pixels >= 1.0 {
        pixels.floor() / pixels_per_point
    } else {
        scale
    }
}

/// Small text on a plate, readable over any picture.
fn label(painter: &Painter, cx: &Cx<'_>, at: egui::Pos2, anchor: Align2, text: &str) {
    let galley = painter.layout_no_wrap(text.to_owned(), FontId::proportional(11.0), cx.theme.text);
    let place = anchor.anchor_size(at, galley.size());
    let plate = place.expand2(vec2(5.0, 2.0));
    painter.rect(plate, 3, cx.theme.panel, Stroke::new(1.0, cx.theme.hairline), StrokeKind::Inside);
    painter.galley(place.min, galley, cx.theme.text);
}

fn numbers(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, other: Option<&Entry>, item: Item) {
    let sides = [(Some("A"), Some(entry)), (Some("B"), other)];
    for (letter, entry) in sides {
        let Some(entry) = entry else { continue };
        if let (Some(letter), Some(_)) = (letter, other) {
            let text = format!("{letter}  “{}”", entry.title());
            let text = RichText::new(text).font(theme::strong(13.0)).color(cx.theme.strong);
            ui.add(egui::Label::new(text).truncate());
        }
        for line in statistics::lines(entry, item) {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                ui.label(RichText::new(line.name).color(cx.theme.muted).small());
                ui.label(&line.value);
            })
            .response
            .on_hover_text(&line.meaning);
            ui.add_space(2.0);
        }
        ui.add_space(8.0);
    }
    if let (Some(other), Item::Mean | Item::Sample(_)) = (other, item) {
        ui.label(RichText::new(pairing(entry, other)).color(cx.theme.muted).small());
        ui.add_space(8.0);
    }
    if !matches!(item, Item::Gallery(_)) {
        ui.horizontal_wrapped(|ui| menu::picture_actions(ui, cx, entry, item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::panes::samples::fixture;

    #[test]
    fn arrows_go_through_the_shown_order_and_stop_at_its_ends() {
        let sequence = [Item::Query, Item::Mean, Item::Sample(5), Item::Sample(2)];
        let next = |item, step| neighbour(&sequence, item, step);
        assert_eq!(next(Item::Mean, Step::On), Some(Item::Sample(5)));
        assert_eq!(next(Item::Sample(5), Step::Back), Some(Item::Mean));
        assert_eq!(next(Item::Sample(2), Step::On), None);
        assert_eq!(next(Item::Query, Step::Back), None);
        assert_eq!(next(Item::Mean, Step::Last), Some(Item::Sample(2)));
        assert_eq!(next(Item::Sample(2), Step::Last), None);
        assert_eq!(next(Item::Mean, Step::Stay), None);
    }

    #[test]
    fn from_a_sample_that_the_filter_hides_a_step_leads_to_the_beginning() {
        let sequence = [Item::Query, Item::Mean];
        assert_eq!(neighbour(&sequence, Item::Sample(9), Step::On), Some(Item::Query));
    }

    #[test]
    fn zooming_keeps_the_point_under_the_pointer() {
        let frame = Rect::from_min_size(pos2(0.0, 0.0), vec2(400.0, 400.0));
        let fit = vec2(400.0, 400.0);
        let at = vec2(80.0, -40.0);
        let mut zoom = Zoom::default();
        let fraction = |zoom: &Zoom| {
            let place = zoom.place(frame, fit);
            (frame.center() + at - place.min) / place.size()
        };
        let before = fraction(&zoom);
        zoom.by(3.0, at, fit);
        assert!((fraction(&zoom) - before).length() < 1e-4);
        zoom.by(2.0, at, fit);
        assert!((fraction(&zoom) - before).length() < 1e-4);
    }

    #[test]
    fn a_picture_that_fits_cannot_be_moved_away() {
        let fit = vec2(100.0, 100.0);
        let mut zoom = Zoom::default();
        zoom.pan(vec2(500.0, 500.0), fit);
        assert_eq!(zoom, Zoom::default());
        zoom.by(4.0, Vec2::ZERO, fit);
        zoom.pan(vec2(5000.0, 0.0), fit);
        assert_eq!(zoom.offset, vec2(0.375, 0.0));
        zoom.by(0.01, Vec2::ZERO, fit);
        assert_eq!(zoom, Zoom::default());
    }

    #[test]
    fn small_pictures_are_enlarged_by_whole_pixels_and_large_ones_fill_their_frame() {
        let frame = vec2(700.0, 700.0);
        assert_eq!(fit_scale(Vec2::splat(64.0), frame, 1.0), 10.0);
        assert_eq!(fit_scale(Vec2::splat(64.0), frame, 2.0), 10.5);
        assert_eq!(fit_scale(Vec2::splat(512.0), frame, 1.0), 700.0 / 512.0);
        // Smaller than the picture itself: whole pixels would leave nothing.
        assert_eq!(fit_scale(Vec2::splat(64.0), Vec2::splat(32.0), 1.0), 0.5);
    }

    #[test]
    fn tiles_of_different_seeds_are_not_said_to_share_their_noise() {
        let a = fixture::entry(1, "a", 2);
        let mut b = fixture::entry(2, "b", 2);
        assert!(pairing(&a, &b).starts_with("Paired"));
        b.recipe.sampling.seed = 7;
        assert!(!pairing(&a, &b).starts_with("Paired"));
    }

    #[test]
    fn an_index_that_the_other_query_does_not_have_has_no_pair() {
        let other = fixture::entry(2, "b", 2);
        assert!(pairs(Item::Sample(1), &other));
        assert!(!pairs(Item::Sample(2), &other));
        assert!(pairs(Item::Mean, &other));
        assert!(!pairs(Item::Gallery(0), &other));
    }
}

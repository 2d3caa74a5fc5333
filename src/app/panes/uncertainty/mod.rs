//! The Uncertainty pane: what the predicted distribution of the embedding looks like, dimension by
//! dimension, and how uncertain the query is among queries of its kind.
//!
//! In: the distribution, samples and reference of the current entry (A) and of the one beside it
//! (B). Out: hovered and selected dimensions, walks along them. It must not know how any of it was
//! computed.

mod card;
mod dotplot;
mod heat_map;
mod order;
mod prepared;
mod summary;
mod variance;

use egui::{Align2, Color32, EventFilter, Key, PointerButton, Pos2, Rect, Response, Sense, Stroke};
use egui::{Ui, pos2, vec2};

use self::order::Order;
use self::prepared::Prepared;
use super::Cx;
use super::axes::{self, Range};
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::widgets;

/// Offsets of a walk, in standard deviations.
const WALK: [f64; 7] = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0];
/// Dimensions that one button selects.
const MOST_UNCERTAIN: usize = 8;
/// Fewest positions that can be zoomed to.
const NARROWEST: f64 = 4.0;
/// Seconds that the pointer rests before the card opens.
const DWELL: f64 = 0.125;
/// Space left of the plots for value labels.
const LEFT: f32 = 52.0;

/// View state of the Uncertainty pane.
pub struct UncertaintyPane {
    order: Order,
    common_scale: bool,
    /// Lines of σ in place of stacked variances.
    as_sigma: bool,
    show_samples: bool,
    /// Share of the height that the heat map takes from the variance plot.
    split: f32,
    /// Shown positions and values; `None`: the first view.
    x: Option<Range>,
    y: Option<Range>,
    prepared: Option<Prepared>,
    hovered: Option<Hovered>,
    /// Position where a brush began.
    brush: Option<f64>,
    /// Position that the arrow keys move.
    cursor: Option<usize>,
    /// The dimensions selected before the last click, which a double click brings back.
    before_click: Vec<usize>,
    /// Selected dimensions, and the selection they were taken from.
    selected: Option<(u64, Vec<usize>)>,
    /// The heat map where there is no device to draw it.
    picture: Option<heat_map::Picture>,
    hatch: Option<egui::TextureHandle>,
}

impl Default for UncertaintyPane {
    fn default() -> Self {
        Self {
            order: Order::default(),
            common_scale: false,
            as_sigma: false,
            show_samples: true,
            split: 0.66,
            x: None,
            y: None,
            prepared: None,
            hovered: None,
            brush: None,
            cursor: None,
            before_click: Vec::new(),
            selected: None,
            picture: None,
            hatch: None,
        }
    }
}

/// The dimension under the pointer.
#[derive(Clone, Copy)]
struct Hovered {
    dimension: usize,
    /// When the pointer came to it, in seconds.
    since: f64,
}

/// One frame's geometry, shared by what is drawn along x.
struct Plot<'a> {
    prepared: &'a Prepared,
    x: Range,
    y: Range,
    /// The heat map.
    rect: Rect,
    /// By position: whether the dimension is selected.
    selected: Vec<bool>,
    any_selected: bool,
}

impl Plot<'_> {
    /// Where a position is on screen.
    fn x_of(&self, position: f64) -> f32 {
        self.rect.left() + (self.x.share(position) * f64::from(self.rect.width())) as f32
    }

    /// The position at a place on screen.
    fn position_at(&self, x: f32) -> f64 {
        self.x.at(f64::from((x - self.rect.left()) / self.rect.width()))
    }

    fn y_of(&self, value: f64) -> f32 {
        self.rect.bottom() - (self.y.share(value) * f64::from(self.rect.height())) as f32
    }

    /// Width of one dimension in points.
    fn column_width(&self) -> f32 {
        (f64::from(self.rect.width()) / self.x.width()) as f32
    }

    /// Positions that are at least partly shown.
    fn visible(&self) -> std::ops::Range<usize> {
        let first = self.x.low.floor().max(0.0) as usize;
        let end = (self.x.high.ceil().max(0.0) as usize).min(self.prepared.dim());
        first.min(end)..end
    }

    /// The position under a place on screen, if a dimension is there.
    fn column_at(&self, x: f32) -> Option<usize> {
        let position = self.position_at(x);
        (position >= 0.0 && position < self.prepared.dim() as f64).then_some(position as usize)
    }
}

impl UncertaintyPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let job = state.jobs.latest(JobKind::Analyse);
        let Some(result) = state.entry().and_then(|entry| entry.result.as_ref()) else {
            self.without_result(ui, cx);
            return;
        };
        let other = state.other().and_then(|entry| entry.result.as_ref());
        let kept =
            self.prepared.take().filter(|prepared| prepared.is_of(result, other, self.order));
        let prepared = match kept {
            Some(prepared) => prepared,
            None => {
                let prepared = Prepared::new(result, other, self.order);
                self.forget_view(&prepared);
                prepared
            }
        };
        if let Some(job) = job {
            widgets::busy(ui, cx, job);
        }
        if let Some(failure) = &state.query_failure {
            widgets::failure(ui, cx, "The last query failed; this is the one before", failure);
        }
        let version = state.selection.version();
        if self.selected.as_ref().is_none_or(|(of, _)| *of != version) {
            self.selected = Some((version, state.selection.dimensions().collect()));
        }
        self.toolbar(ui, cx, &prepared);
        summary::show(ui, cx, &prepared);
        self.plots(ui, cx, &prepared);
        self.prepared = Some(prepared);
    }

    /// Keeps the zoom between queries, which makes them comparable, unless the dimensions differ.
    fn forget_view(&mut self, prepared: &Prepared) {
        let dim = prepared.dim();
        if self.x.is_some_and(|x| x.high > dim as f64) {
            self.x = None;
            self.y = None;
        }
        self.cursor = self.cursor.filter(|&cursor| cursor < dim);
        self.hovered = self.hovered.filter(|hovered| hovered.dimension < dim);
        self.brush = None;
        self.picture = None;
    }

    /// The selected dimensions.
    fn chosen(&self) -> &[usize] {
        self.selected.as_ref().map_or(&[], |(_, dimensions)| dimensions)
    }

    fn without_result(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        self.prepared = None;
        if let Some(job) = state.jobs.latest(JobKind::Analyse) {
            widgets::busy(ui, cx, job);
        } else if let Some(failure) = &state.query_failure {
            widgets::failure(ui, cx, "The query could not be read", failure);
        } else if state.entry().is_some() {
            let sentence =
                "This query was saved without its result. Run it to see its uncertainty.";
            widgets::empty(ui, cx, icons::WAVE_SINE, sentence, Some(UiCommand::Run));
        } else {
            let sentence = "Here stands how far a query's meaning spreads, dimension by dimension.";
            widgets::empty(ui, cx, icons::WAVE_SINE, sentence, Some(UiCommand::FocusQuery));
        }
    }

    fn toolbar(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, prepared: &Prepared) {
        let wide = ui.available_width() >= 600.0;
        ui.horizontal(|ui| {
            let width = if wide { 124.0 } else { 96.0 };
            let combo = egui::ComboBox::from_id_salt("order of the dimensions")
                .width(width)
                .truncate()
                .selected_text(self.order.label())
                .show_ui(ui, |ui| {
                    for order in Order::ALL {
                        ui.selectable_value(&mut self.order, order, order.label());
                    }
                });
            combo.response.on_hover_text("Order of the dimensions");
            let options = egui::containers::menu::MenuConfig::new()
                .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside);
            let menu = egui::containers::menu::MenuButton::new(icons::SLIDERS_HORIZONTAL)
                .config(options)
                .ui(ui, |ui| self.options(ui, prepared.values));
            menu.0.on_hover_text("What the plots show");
            let label = |icon: &str, text: &str| {
                if wide { format!("{icon} {text}") } else { icon.to_owned() }
            };
            let most = prepared.dim().min(MOST_UNCERTAIN);
            let select = format!("Select the {most} most uncertain");
            let button = ui.button(label(icons::SORT_ASCENDING, &select));
            if button.on_hover_text(format!("{select} dimensions, by total σ")).clicked() {
                let dimensions = order::most_uncertain(&prepared.result.distribution, most);
                select_dimensions(cx, dimensions, SelectMode::Replace);
            }
            let chosen = self.chosen().len();
            let walk = ui.add_enabled(
                chosen > 0,
                egui::Button::new(label(icons::WAVE_SINE, "Walk selected dimensions")),
            );
            let walk = walk
                .on_hover_text(format!(
                    "Walk selected dimensions: decodes the mean moved along {} by -3 to 3 σ",
                    dimensions_in_words(chosen)
                ))
                .on_disabled_hover_text(
                    "Walk selected dimensions: drag across the plot to select some first",
                );
            if walk.clicked() {
                cx.send(Action::Traverse {
                    dimensions: self.chosen().to_vec(),
                    offsets: WALK.to_vec(),
                });
            }
            if chosen > 0 && ui.available_width() > 60.0 {
                let text = format!("{} of {} selected", axes::count(chosen), prepared.dim());
                let text = egui::RichText::new(text).small().color(cx.theme.muted);
                ui.add(egui::Label::new(text).truncate());
            }
        });
    }

    fn options(&mut self, ui: &mut Ui, values: Range) {
        ui.set_max_width(240.0);
        ui.checkbox(&mut self.common_scale, "Common scale")
            .on_hover_text("One colour scale for all dimensions, in place of each to its own peak");
        ui.checkbox(&mut self.as_sigma, "σ in place of variance").on_hover_text(
            "Variances add up and are stacked; σ does not add and is drawn as lines",
        );
        ui.checkbox(&mut self.show_samples, "Samples")
            .on_hover_text("The values of the drawn embeddings, as dots");
        ui.separator();
        if ui.button("Reset the view").on_hover_text("Or double-click the plot").clicked() {
            self.x = None;
            self.y = None;
            ui.close();
        }
        if ui.button("Show all values").on_hover_text("Extreme dimensions included").clicked() {
            self.y = Some(values);
            ui.close();
        }
    }

    fn plots(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, prepared: &Prepared) {
        let whole = ui.available_rect_before_wrap();
        ui.advance_cursor_after_rect(whole);
        if whole.width() < 100.0 || whole.height() < 60.0 {
            let hint = "Enlarge this pane to see the plots";
            axes::caption(ui, whole, Align2::CENTER_CENTER, hint, cx.theme.muted);
            return;
        }
        let left = whole.left() + LEFT;
        let right = whole.right() - 8.0;
        let row = |top: f32, bottom: f32| {
            Rect::from_min_max(pos2(left, top), pos2(right, bottom.max(top)))
        };
        let axis = row(whole.bottom() - 30.0, whole.bottom());
        let header = row(whole.top(), whole.top() + 18.0);
        let with_variance = whole.height() >= 190.0;
        let with_strip = whole.height() >= 320.0 && !prepared.result.samples.is_empty();
        let strip = if with_strip { 14.0 } else { 0.0 };
        let room = axis.top() - header.bottom();
        let lower =
            if with_variance { ((room - strip) * (1.0 - self.split)).max(56.0) } else { 0.0 };
        let heat = row(header.bottom(), axis.top() - lower - strip);
        let x_bounds = Range::new(0.0, prepared.dim() as f64);
        let x = self.x.map_or(x_bounds, |x| x.limited(NARROWEST, &x_bounds));
        let y = self.y.unwrap_or(prepared.first_view);
        let mut selected = vec![false; prepared.dim()];
        for &dimension in self.chosen() {
            if let Some(&position) = prepared.arrangement.positions.get(dimension) {
                selected[position] = true;
            }
        }
        let any_selected = selected.contains(&true);
        let mut plot = Plot { prepared, x, y, rect: heat, selected, any_selected };

        let heat_response =
            ui.interact(heat, ui.scope_id().with("heat map"), Sense::click_and_drag());
        heat_response.widget_info(|| {
            let label = format!("Density of {} dimensions", prepared.dim());
            egui::WidgetInfo::labeled(egui::Role::Canvas, true, label)
        });
        self.navigate(ui, cx, &mut plot, &heat_response, true);
        self.keys(ui, cx, &plot, &heat_response);
        let mut pointer = heat_response.hover_pos();

        heat_map::header(ui, cx, self, &plot, header);
        heat_map::show(ui, cx, self, &plot, &heat_response);
        let mut bottom = heat.bottom();
        if with_strip {
            let strip = row(heat.bottom() + 2.0, heat.bottom() + strip);
            heat_map::deviation(ui, cx, &plot, strip);
            bottom = strip.bottom();
        }
        if with_variance {
            self.splitter(ui, cx, row(bottom, bottom + 6.0), room);
            let header = row(bottom + 6.0, bottom + 22.0);
            let rect = row(header.bottom(), axis.top());
            let response =
                ui.interact(rect, ui.scope_id().with("variance"), Sense::click_and_drag());
            response.widget_info(|| {
                let label = "Variance of each dimension";
                egui::WidgetInfo::labeled(egui::Role::Canvas, true, label)
            });
            self.navigate(ui, cx, &mut plot, &response, false);
            pointer = pointer.or(response.hover_pos());
            variance::show(ui, cx, self, &plot, header, rect);
            bottom = rect.bottom();
        }
        x_axis(ui, cx, &plot, self.order, Rect::from_min_max(pos2(left, bottom), axis.max));
        let area = Rect::from_min_max(heat.min, pos2(heat.right(), bottom));
        self.brush_band(ui, cx, &plot, area);
        self.hover(ui, cx, &plot, area, pointer);
    }

    /// Wheel, drags and clicks on one of the plots.
    fn navigate(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        plot: &mut Plot<'_>,
        response: &Response,
        over_values: bool,
    ) {
        let prepared = plot.prepared;
        let x_bounds = Range::new(0.0, prepared.dim() as f64);
        let y_bounds = prepared.values.zoomed(2.0, prepared.values.at(0.5));
        let mut x = plot.x;
        let mut y = plot.y;
        if let Some(pointer) = response.hover_pos() {
            let (scroll, zoom) = ui.input(|i| (i.smooth_scroll_delta(), i.zoom_delta()));
            if zoom != 1.0 && over_values {
                let share = (response.rect.bottom() - pointer.y) / response.rect.height();
                y = y.zoomed(f64::from(1.0 / zoom), y.at(f64::from(share)));
            } else if zoom != 1.0 {
                x = x.zoomed(f64::from(1.0 / zoom), plot.position_at(pointer.x));
            }
            if scroll.y != 0.0 {
                let factor = (-f64::from(scroll.y) / 200.0).exp();
                x = x.zoomed(factor, plot.position_at(pointer.x));
            }
            if scroll.x != 0.0 {
                x = x.moved(f64::from(-scroll.x / plot.column_width()));
            }
        }
        let space = ui.input(|i| i.key_down(Key::Space));
        let pans = response.dragged_by(PointerButton::Secondary)
            || response.dragged_by(PointerButton::Middle)
            || (response.dragged_by(PointerButton::Primary) && space && self.brush.is_none());
        if pans {
            let delta = response.drag_delta();
            x = x.moved(f64::from(-delta.x / plot.column_width()));
            if over_values {
                let share = delta.y / response.rect.height();
                y = y.moved(f64::from(share) * y.width());
            }
            ui.set_cursor_icon(egui::CursorIcon::Grabbing);
        }
        if response.double_clicked_by(PointerButton::Primary) {
            self.x = None;
            self.y = None;
            let before = std::mem::take(&mut self.before_click);
            select_dimensions(cx, before, SelectMode::Replace);
        } else {
            if x != plot.x {
                self.x = Some(x.limited(NARROWEST, &x_bounds));
            }
            if y != plot.y {
                let narrowest = prepared.values.width() * 1e-6;
                self.y = Some(y.limited(narrowest, &y_bounds));
            }
        }
        plot.x = self.x.unwrap_or(x_bounds);
        plot.y = self.y.unwrap_or(prepared.first_view);

        if response.drag_started_by(PointerButton::Primary) && !space {
            let origin = ui.input(|i| i.pointer.press_origin());
            self.brush = origin.map(|origin| plot.position_at(origin.x));
        }
        if response.drag_stopped()
            && let Some(start) = self.brush.take()
            && let Some(end) = ui.input(|i| i.pointer.latest_pos())
        {
            let dimensions = brushed(start, plot.position_at(end.x), prepared.dim())
                .map(|position| prepared.arrangement.dimensions[position])
                .collect();
            select_dimensions(cx, dimensions, SelectMode::of_keys(ui));
        }
        if response.clicked_by(PointerButton::Primary)
            && !response.double_clicked_by(PointerButton::Primary)
        {
            response.request_focus();
            self.before_click = self.chosen().to_vec();
            let column =
                response.interact_pointer_pos().and_then(|pointer| plot.column_at(pointer.x));
            if let Some(position) = column {
                self.cursor = Some(position);
                let dimension = prepared.arrangement.dimensions[position];
                select_dimensions(cx, vec![dimension], SelectMode::of_keys(ui));
            }
        }
    }

    /// Arrows move the cursor, Space toggles the dimension under it.
    fn keys(&mut self, ui: &Ui, cx: &mut Cx<'_>, plot: &Plot<'_>, response: &Response) {
        if !response.has_focus() {
            return;
        }
        let filter = EventFilter { horizontal_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let none = egui::Modifiers::NONE;
        let (left, right, toggle) = ui.input_mut(|i| {
            (
                i.count_and_consume_key(none, Key::ArrowLeft),
                i.count_and_consume_key(none, Key::ArrowRight),
                i.consume_key(none, Key::Space),
            )
        });
        let last = plot.prepared.dim() - 1;
        if left + right > 0 {
            let from = self.cursor.unwrap_or(plot.visible().start);
            let to = (from + right).saturating_sub(left).min(last);
            self.cursor = Some(to);
            // The view follows the cursor.
            let position = to as f64;
            if position < plot.x.low {
                self.x = Some(plot.x.moved(position - plot.x.low));
            } else if position + 1.0 > plot.x.high {
                self.x = Some(plot.x.moved(position + 1.0 - plot.x.high));
            }
            let dimension = plot.prepared.arrangement.dimensions[to];
            self.hovered = Some(Hovered { dimension, since: ui.input(|i| i.time) });
            cx.send(Action::Hover(Some(Item::Dimension(dimension))));
        }
        if toggle && let Some(cursor) = self.cursor {
            let dimension = plot.prepared.arrangement.dimensions[cursor];
            select_dimensions(cx, vec![dimension], SelectMode::Toggle);
        }
    }

    /// The dimension under the pointer: told to all panes at once, with a card after a moment.
    fn hover(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        plot: &Plot<'_>,
        area: Rect,
        pointer: Option<Pos2>,
    ) {
        let now = ui.input(|i| i.time);
        let dragging = ui.input(|i| i.pointer.any_down());
        let by_keys = pointer.is_none() && self.cursor.is_some() && self.hovered.is_some();
        let focused = ui.memory(|m| m.has_focus(ui.scope_id().with("heat map")));
        let under = pointer
            .and_then(|pointer| plot.column_at(pointer.x))
            .map(|position| plot.prepared.arrangement.dimensions[position]);
        if under != self.hovered.map(|hovered| hovered.dimension) && !(by_keys && focused) {
            self.hovered = under.map(|dimension| Hovered { dimension, since: now });
            cx.send(Action::Hover(under.map(Item::Dimension)));
        }
        // Another pane may point at a dimension too.
        let shown =
            self.hovered.map(|hovered| hovered.dimension).or(match cx.state.selection.hovered {
                Some(Item::Dimension(dimension)) => Some(dimension),
                _ => None,
            });
        let Some(&position) = shown.and_then(|d| plot.prepared.arrangement.positions.get(d)) else {
            return;
        };
        heat_map::column_marks(ui, cx, plot, area, position);
        let Some(hovered) = self.hovered else { return };
        if dragging {
            return;
        }
        let left = DWELL - (now - hovered.since);
        if left > 0.0 {
            ui.request_repaint_after(std::time::Duration::from_secs_f64(left));
            return;
        }
        let anchor = match pointer {
            Some(_) => egui::containers::PopupAnchor::Pointer,
            None => pos2(plot.x_of(position as f64 + 0.5), plot.rect.center().y).into(),
        };
        card::show(ui, cx, plot, hovered.dimension, anchor);
    }

    /// The brush while it is drawn.
    fn brush_band(&self, ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, area: Rect) {
        let (Some(start), Some(now)) = (self.brush, ui.input(|i| i.pointer.latest_pos())) else {
            return;
        };
        let end = plot.position_at(now.x);
        let columns = brushed(start, end, plot.prepared.dim());
        let (from, to) = (plot.x_of(columns.start as f64), plot.x_of(columns.end as f64));
        let band = Rect::from_min_max(pos2(from, area.top()), pos2(to, area.bottom()));
        let painter = ui.painter_at(area);
        painter.rect_filled(band, 0.0, cx.theme.accent.gamma_multiply(0.2));
        let edge = Stroke::new(1.0, cx.theme.accent);
        painter.vline(band.left(), area.y_range(), edge);
        painter.vline(band.right(), area.y_range(), edge);
        let text = dimensions_in_words(columns.len());
        let at = pos2(band.center().x.clamp(area.left() + 40.0, area.right() - 40.0), area.top());
        let at = at + vec2(0.0, 4.0);
        axes::tag(&painter, at, Align2::CENTER_TOP, &text, cx.theme.strong, cx.theme.raised);
    }

    /// A handle between the heat map and the variance plot.
    fn splitter(&mut self, ui: &Ui, cx: &Cx<'_>, rect: Rect, room: f32) {
        let response = ui.interact(rect, ui.scope_id().with("splitter"), Sense::click_and_drag());
        response.widget_info(|| {
            let label = "Share of the heat map; drag to change";
            egui::WidgetInfo::labeled(egui::Role::Splitter, true, label)
        });
        if response.dragged() && room > 0.0 {
            self.split = (self.split + response.drag_delta().y / room).clamp(0.3, 0.85);
        }
        if response.double_clicked() {
            self.split = Self::default().split;
        }
        let active = response.hovered() || response.dragged();
        let colour = if active { cx.theme.accent } else { cx.theme.hairline };
        ui.painter().hline(rect.x_range(), rect.center().y, Stroke::new(1.0, colour));
        response.on_hover_and_drag_cursor(egui::CursorIcon::ResizeVertical);
    }
}

/// The dimensions' axis: round positions, or each dimension's own number where there is room.
fn x_axis(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, order: Order, rect: Rect) {
    let painter = ui.painter();
    let font = egui::FontId::proportional(axes::AXIS_TEXT);
    let colour = cx.theme.muted;
    let top = rect.top() + 2.0;
    let named = plot.column_width() >= 30.0;
    if named || order == Order::Index {
        let step = if named { 1.0 } else { axes::step(plot.x.width(), tick_count(rect)).max(1.0) };
        for position in plot.visible().filter(|&p| (p as f64).rem_euclid(step) < 0.5) {
            let x = plot.x_of(position as f64 + 0.5);
            let text = plot.prepared.arrangement.dimensions[position].to_string();
            tick(painter, x, top, &text, &font, colour, rect);
        }
    } else {
        // Sorted: the place in the order, counted from 1.
        for value in axes::ticks(&plot.x, tick_count(rect)) {
            let place = value.round().max(1.0);
            let x = plot.x_of(place - 0.5);
            tick(painter, x, top, &format!("{place:.0}"), &font, colour, rect);
        }
    }
    let label = match (named, order) {
        (_, Order::Index) => "dimension, by index".to_owned(),
        (true, _) => format!("dimension, {}", order.label()),
        (false, _) => format!("dimension, {} (place in this order)", order.label()),
    };
    let below = Rect::from_min_max(pos2(rect.left(), rect.bottom() - 15.0), rect.max);
    axes::caption(ui, below, Align2::CENTER_CENTER, &label, colour);
}

fn tick_count(rect: Rect) -> usize {
    (rect.width() / 56.0).max(2.0) as usize
}

fn tick(
    painter: &egui::Painter,
    x: f32,
    top: f32,
    text: &str,
    font: &egui::FontId,
    colour: Color32,
    within: Rect,
) {
    if x < within.left() - 0.5 || x > within.right() + 0.5 {
        return;
    }
    let galley = painter.layout_no_wrap(text.to_owned(), font.clone(), colour);
    let half = galley.size().x * 0.5;
    let at = x.clamp(within.left() + half, (within.right() - half).max(within.left() + half));
    painter.galley(pos2(at - half, top), galley, colour);
}

/// Positions that a brush between two places covers.
fn brushed(start: f64, end: f64, dim: usize) -> std::ops::Range<usize> {
    let (low, high) = (start.min(end), start.max(end));
    let first = low.floor().max(0.0) as usize;
    let last = high.floor().max(0.0) as usize;
    first.min(dim)..(last + 1).min(dim).max(first.min(dim))
}

/// Runs of selected positions, each as start and end.
fn runs(selected: &[bool], within: std::ops::Range<usize>) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for position in within.filter(|&position| selected[position]) {
        match runs.last_mut() {
            Some((_, end)) if *end == position => *end += 1,
            _ => runs.push((position, position + 1)),
        }
    }
    runs
}

fn select_dimensions(cx: &mut Cx<'_>, dimensions: Vec<usize>, mode: SelectMode) {
    let items = dimensions.into_iter().map(Item::Dimension).collect();
    cx.send(Action::Select { items, mode, from: PaneKind::Uncertainty });
}

fn dimensions_in_words(count: usize) -> String {
    if count == 1 { "1 dimension".to_owned() } else { format!("{} dimensions", axes::count(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brush_takes_every_dimension_it_touches_in_either_direction() {
        assert_eq!(brushed(2.3, 5.1, 10), 2..6);
        assert_eq!(brushed(5.1, 2.3, 10), 2..6);
        assert_eq!(brushed(-4.0, 0.5, 10), 0..1);
        assert_eq!(brushed(8.5, 40.0, 10), 8..10);
        assert!(brushed(20.0, 30.0, 10).is_empty());
    }

    #[test]
    fn selected_neighbours_form_one_run() {
        let selected = [true, true, false, true, false, false, true];
        assert_eq!(runs(&selected, 0..7), [(0, 2), (3, 4), (6, 7)]);
        assert_eq!(runs(&selected, 1..4), [(1, 2), (3, 4)]);
        assert!(runs(&selected, 4..6).is_empty());
    }
}

//! The page of a figure: title, charts one below the other, and the caption block. Every text is
//! measured and wrapped, and the page grows with it, so that nothing is cut.

use image::Rgb;

use super::axis::{Axis, AxisSpec};
use super::drawing::{Align, Drawing, LINE_HEIGHT, Rect, TextStyle, text_width, wrap};
use crate::export::canvas::colour;

/// Width of every figure in points.
pub const WIDTH: f64 = 720.0;
pub const MARGIN: f64 = 24.0;

pub const TITLE: TextStyle = TextStyle { size: 16.0, strong: true, colour: colour::STRONG_TEXT };
pub const BODY: TextStyle = TextStyle { size: 12.0, strong: false, colour: colour::TEXT };
pub const SMALL: TextStyle = TextStyle { size: 11.0, strong: false, colour: colour::MUTED_TEXT };
pub const LABEL: TextStyle = TextStyle { size: 11.0, strong: false, colour: colour::TEXT };

/// A figure while it is laid out from top to bottom.
pub struct Page {
    pub drawing: Drawing,
    /// Where the next part begins.
    pub y: f64,
}

/// How a series looks in a legend.
#[derive(Debug, Clone, Copy)]
pub enum Mark {
    Square,
    Disc,
    Diamond,
    Ring,
    Line,
    Dashes,
}

/// A chart's axes and the area between them.
pub struct Chart {
    pub x: Axis,
    pub y: Axis,
    pub area: Rect,
}

impl Page {
    /// Begins a figure with a title, and below it one sentence that says what is drawn.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let drawing = Drawing { width: WIDTH, ..Drawing::default() };
        let mut page = Self { drawing, y: MARGIN };
        page.paragraph(title, TITLE);
        page.y += 2.0;
        page.paragraph(subtitle, SMALL);
        page.y += 12.0;
        page
    }

    /// Text across the whole page.
    pub fn paragraph(&mut self, text: &str, style: TextStyle) {
        let (_, height) = self.block(text, [MARGIN, self.y], WIDTH - 2.0 * MARGIN, style);
        self.y += height;
    }

    /// Text with its upper left corner at `at`, wrapped to `width`; gives its lines and height.
    pub fn block(
        &mut self,
        text: &str,
        at: [f64; 2],
        width: f64,
        style: TextStyle,
    ) -> (usize, f64) {
        let lines = wrap(text, style, width);
        let step = style.size * LINE_HEIGHT;
        for (i, line) in lines.iter().enumerate() {
            let baseline = at[1] + i as f64 * step + style.size;
            self.drawing.text(line, [at[0], baseline], style, Align::Left);
        }
        (lines.len(), lines.len() as f64 * step)
    }

    /// What the marks mean, in as many rows as it takes.
    pub fn legend(&mut self, entries: &[(Mark, Rgb<u8>, &str)]) {
        let mut x = MARGIN;
        for &(mark, colour, name) in entries {
            let width = 20.0 + text_width(name, LABEL);
            if x > MARGIN && x + width > WIDTH - MARGIN {
                x = MARGIN;
                self.y += LABEL.size * LINE_HEIGHT;
            }
            let middle = [x + 7.0, self.y + 7.5];
            draw_mark(&mut self.drawing, mark, middle, colour);
            // A name longer than a row is wrapped below itself.
            let (lines, height) =
                self.block(name, [x + 20.0, self.y], WIDTH - MARGIN - x - 20.0, LABEL);
            if lines > 1 {
                x = MARGIN;
                self.y += height;
            } else {
                x += width + 18.0;
            }
        }
        if x > MARGIN {
            self.y += LABEL.size * LINE_HEIGHT;
        }
        self.y += 8.0;
    }

    /// Axes with grid, ticks and labels around an area `height` points high. The label of the
    /// vertical axis stands above it, to be read without turning the head.
    pub fn chart(&mut self, height: f64, x: &AxisSpec, y: &AxisSpec) -> Chart {
        self.chart_in(height, x, y, WIDTH - MARGIN)
    }

    /// The same, ending at `right`.
    pub fn chart_in(&mut self, height: f64, x: &AxisSpec, y: &AxisSpec, right: f64) -> Chart {
        self.paragraph(&y.label, LABEL);
        self.y += 6.0;
        self.chart_between(height, x, y, MARGIN, right)
    }

    /// The same between `left`, where the ticks begin, and `right`, without the label of the
    /// vertical axis.
    pub fn chart_between(
        &mut self,
        height: f64,
        x: &AxisSpec,
        y: &AxisSpec,
        left: f64,
        right: f64,
    ) -> Chart {
        let top = self.y;
        let bottom = top + height;
        let vertical = Axis::new(y, bottom, top);
        let ticks = vertical.ticks();
        let widest = ticks.iter().map(|(_, label)| text_width(label, SMALL)).fold(0.0, f64::max);
        let left = left + widest + 8.0;
        for (value, label) in &ticks {
            let at = vertical.position(*value);
            self.drawing.line([left, at], [right, at], 0.75, colour::LINE);
            let baseline = at + 0.36 * SMALL.size;
            self.drawing.text(label, [left - 6.0, baseline], SMALL, Align::Right);
        }
        let horizontal = Axis::new(x, left, right);
        self.x_axis(&horizontal, x, top, bottom);
        Chart { x: horizontal, y: vertical, area: Rect::new(left, top, right, bottom) }
    }

    /// Vertical grid lines between `top` and `bottom` with ticks and the label below; what follows
    /// begins under them.
    pub fn x_axis(&mut self, axis: &Axis, spec: &AxisSpec, top: f64, bottom: f64) {
        let baseline = bottom + 6.0 + SMALL.size;
        let mut free = f64::NEG_INFINITY;
        for (value, label) in axis.ticks() {
            let at = axis.position(value);
            self.drawing.line([at, top], [at, bottom + 3.0], 0.75, colour::LINE);
            let half = text_width(&label, SMALL) / 2.0;
            // At the page's edge a label moves inwards instead of being cut.
            let centre = at.clamp(half + 2.0, WIDTH - half - 2.0);
            if centre - half > free {
                self.drawing.text(&label, [centre, baseline], SMALL, Align::Centre);
                free = centre + half + 6.0;
            }
        }
        let top = baseline + 8.0;
        let left = axis.start();
        let (_, height) = self.block(&spec.label, [left, top], WIDTH - MARGIN - left, LABEL);
        self.y = top + height + 12.0;
    }

    /// Ends the figure with the caption block: one paragraph per line.
    pub fn finish(mut self, caption: &[String]) -> Drawing {
        self.y += 4.0;
        self.drawing.line([MARGIN, self.y], [WIDTH - MARGIN, self.y], 0.75, colour::LINE);
        self.y += 8.0;
        for line in caption {
            self.paragraph(line, SMALL);
        }
        self.drawing.height = (self.y + MARGIN).ceil();
        self.drawing
    }
}

/// Draws a legend's mark around a point.
pub fn draw_mark(drawing: &mut Drawing, mark: Mark, [x, y]: [f64; 2], paint: Rgb<u8>) {
    match mark {
        Mark::Square => drawing.rect(Rect::new(x - 5.0, y - 5.0, x + 5.0, y + 5.0), paint),
        Mark::Disc => drawing.disc([x, y], 3.5, paint, 1.0),
        Mark::Diamond => drawing.diamond([x, y], 6.0, paint),
        Mark::Ring => {
            drawing.diamond([x, y], 7.0, paint);
            drawing.diamond([x, y], 4.5, colour::PAPER);
        }
        Mark::Line => drawing.line([x - 7.0, y], [x + 7.0, y], 2.0, paint),
        Mark::Dashes => drawing.dashed([x - 7.0, y], [x + 7.0, y], 2.0, paint),
    }
}

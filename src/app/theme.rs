//! Colours, type and spacing, in dark and light.
//!
//! Surfaces are neutral so that they do not shift how pictures look. Text has a contrast of at
//! least 4.5 against its panel, marks and control edges at least 3.

use std::sync::Arc;

use egui::{
    Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Shadow,
    Stroke, Style, TextStyle, Visuals, vec2,
};

/// Family of headings and key figures.
pub const STRONG_FAMILY: &str = "strong";

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// Colour roles of one theme.
#[derive(Debug, Clone, PartialEq)]
pub struct Theme {
    pub dark: bool,
    pub window: Color32,
    pub panel: Color32,
    pub raised: Color32,
    pub hover: Color32,
    pub text: Color32,
    pub strong: Color32,
    pub muted: Color32,
    /// Decoration only.
    pub hairline: Color32,
    pub edge: Color32,
    /// Accent for text and links.
    pub accent: Color32,
    /// Fill of primary buttons, under white text.
    pub primary: Color32,
    pub selection: Color32,
    pub error: Color32,
    pub warning: Color32,
    pub success: Color32,
    pub aleatoric: Color32,
    pub epistemic: Color32,
    pub total: Color32,
    pub query: Color32,
    pub samples: Color32,
    pub relevant: Color32,
    pub gallery: Color32,
}

impl Theme {
    pub fn dark() -> Self {
        Self {
            dark: true,
            window: rgb(0x0f1115),
            panel: rgb(0x16191f),
            raised: rgb(0x1e2229),
            hover: rgb(0x272c35),
            text: rgb(0xc9cfd8),
            strong: rgb(0xf2f4f7),
            muted: rgb(0x949dab),
            hairline: rgb(0x2c323c),
            edge: rgb(0x6b7482),
            accent: rgb(0x6aa8ff),
            primary: rgb(0x2f6fcf),
            selection: rgb(0x1b3a66),
            error: rgb(0xff8a80),
            warning: rgb(0xffb74d),
            success: rgb(0x6fcf97),
            aleatoric: rgb(0xf5b14c),
            epistemic: rgb(0x4f8fe6),
            total: rgb(0xdadfe7),
            query: rgb(0xffffff),
            samples: rgb(0xe58ac0),
            relevant: rgb(0x35c49a),
            gallery: rgb(0x59616d),
        }
    }

    pub fn light() -> Self {
        Self {
            dark: false,
            window: rgb(0xffffff),
            panel: rgb(0xf6f7f9),
            raised: rgb(0xffffff),
            hover: rgb(0xe9ecf1),
            text: rgb(0x2b313a),
            strong: rgb(0x0f1318),
            muted: rgb(0x5d6673),
            hairline: rgb(0xd5dae1),
            edge: rgb(0x808a98),
            accent: rgb(0x0b5fcc),
            primary: rgb(0x0b5fcc),
            selection: rgb(0xd6e6fb),
            error: rgb(0xb3261e),
            warning: rgb(0x8a5300),
            success: rgb(0x17693f),
            aleatoric: rgb(0xb36b00),
            epistemic: rgb(0x0b4f9e),
            total: rgb(0x23272f),
            query: rgb(0x000000),
            samples: rgb(0xb0317a),
            relevant: rgb(0x007f5f),
            gallery: rgb(0xa3abb6),
        }
    }

    /// The roles of the theme that `context` shows.
    pub fn of(context: &Context) -> Self {
        match context.theme() {
            egui::Theme::Dark => Self::dark(),
            egui::Theme::Light => Self::light(),
        }
    }

    fn visuals(&self) -> Visuals {
        let mut visuals = if self.dark { Visuals::dark() } else { Visuals::light() };
        visuals.override_text_color = None;
        visuals.panel_fill = self.panel;
        visuals.window_fill = self.raised;
        visuals.window_stroke = Stroke::new(1.0, self.hairline);
        visuals.window_corner_radius = CornerRadius::same(6);
        visuals.menu_corner_radius = CornerRadius::same(6);
        visuals.extreme_bg_color = self.window;
        visuals.faint_bg_color = self.raised;
        visuals.code_bg_color = self.raised;
        visuals.hyperlink_color = self.accent;
        visuals.warn_fg_color = self.warning;
        visuals.error_fg_color = self.error;
        visuals.selection.bg_fill = self.selection;
        visuals.selection.stroke = Stroke::new(1.0, self.accent);
        let shadow = Shadow {
            offset: [0, 4],
            blur: 16,
            spread: 0,
            color: Color32::from_black_alpha(if self.dark { 110 } else { 40 }),
        };
        visuals.window_shadow = shadow;
        visuals.popup_shadow = shadow;
        let radius = CornerRadius::same(4);
        let widgets = &mut visuals.widgets;
        for (widget, fill, edge, text) in [
            (&mut widgets.noninteractive, self.panel, self.hairline, self.text),
            (
                &mut widgets.inactive,
                self.raised,
                self.hairline.lerp_to_gamma(self.edge, 0.5),
                self.text,
            ),
            (&mut widgets.hovered, self.hover, self.edge, self.strong),
            (&mut widgets.active, self.hover, self.accent, self.strong),
            (&mut widgets.open, self.hover, self.edge, self.strong),
        ] {
            widget.bg_fill = fill;
            widget.weak_bg_fill = fill;
            widget.bg_stroke = Stroke::new(1.0, edge);
            widget.fg_stroke = Stroke::new(1.0, text);
            widget.corner_radius = radius;
            widget.expansion = 0.0;
        }
        visuals
    }
}

/// Sets fonts, colours and spacing of both themes.
pub fn install(context: &Context, compact: bool) {
    context.set_fonts(fonts());
    set_style(context, compact);
}

/// Sets colours and spacing of both themes.
pub fn set_style(context: &Context, compact: bool) {
    for (theme, roles) in [(egui::Theme::Dark, Theme::dark()), (egui::Theme::Light, Theme::light())]
    {
        context.style_mut_of(theme, |style| {
            style.visuals = roles.visuals();
            set_spacing(style, compact);
        });
    }
}

fn set_spacing(style: &mut Style, compact: bool) {
    let spacing = &mut style.spacing;
    spacing.item_spacing = vec2(8.0, if compact { 2.0 } else { 4.0 });
    spacing.button_padding = vec2(8.0, if compact { 1.0 } else { 3.0 });
    spacing.interact_size.y = if compact { 20.0 } else { 24.0 };
    spacing.window_margin = Margin::same(12);
    spacing.menu_margin = Margin::same(6);
    spacing.indent = 16.0;
    style.interaction.tooltip_delay = 0.5;
    let strong = FontFamily::Name(STRONG_FAMILY.into());
    style.text_styles = [
        (TextStyle::Small, FontId::new(11.0, FontFamily::Proportional)),
        (TextStyle::Body, FontId::new(13.0, FontFamily::Proportional)),
        (TextStyle::Button, FontId::new(13.0, FontFamily::Proportional)),
        (TextStyle::Monospace, FontId::new(12.5, FontFamily::Monospace)),
        (TextStyle::Heading, FontId::new(16.0, strong.clone())),
        (TextStyle::Name("title".into()), FontId::new(20.0, strong.clone())),
        (TextStyle::Name("figure".into()), FontId::new(24.0, strong)),
    ]
    .into();
}

/// Text style of titles, 20 points.
pub fn title() -> TextStyle {
    TextStyle::Name("title".into())
}

/// Text style of key figures, 24 points.
pub fn figure() -> TextStyle {
    TextStyle::Name("figure".into())
}

/// Font of emphasised text of a size in points.
pub fn strong(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name(STRONG_FAMILY.into()))
}

fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let mut add = |name: &str, bytes: &'static [u8]| {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    };
    add("Inter", include_bytes!("../../assets/fonts/Inter-Regular.otf"));
    add("Inter SemiBold", include_bytes!("../../assets/fonts/Inter-SemiBold.otf"));
    add("Phosphor", include_bytes!("../../assets/fonts/Phosphor-subset.ttf"));
    // Icons stand second: in first place they would replace Latin glyphs.
    let proportional = fonts.families.entry(FontFamily::Proportional).or_default();
    proportional.insert(0, "Inter".to_owned());
    proportional.insert(1, "Phosphor".to_owned());
    proportional.push("Hack".to_owned());
    let mut strong = proportional.clone();
    strong[0] = "Inter SemiBold".to_owned();
    fonts.families.insert(FontFamily::Name(STRONG_FAMILY.into()), strong);
    let monospace = fonts.families.entry(FontFamily::Monospace).or_default();
    monospace.push("Phosphor".to_owned());
    fonts
}

//! Colour maps: perceptually uniform from low to high, and diverging for signed values.

use egui::Color32;

use super::colour_tables::{CIVIDIS, VIK, VIRIDIS};
use crate::app::state::settings::ColourMap;
use crate::app::theme::Theme;

/// Share of the scale, from the bottom, that fades into the panel.
const FADE: f32 = 0.02;

/// A sequential map as it is shown: reversed on a light panel, so that low stays close to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colours {
    pub map: ColourMap,
    pub reversed: bool,
}

impl Colours {
    pub fn of(map: ColourMap, theme: &Theme) -> Self {
        Self { map, reversed: !theme.dark }
    }

    /// Every map in both directions.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [ColourMap::Viridis, ColourMap::Cividis, ColourMap::Grey]
            .into_iter()
            .flat_map(|map| [false, true].map(|reversed| Self { map, reversed }))
    }
}

/// Colour of entry 0 to 255 of a map.
fn entry(map: ColourMap, index: usize) -> Color32 {
    let hex = match map {
        ColourMap::Viridis => VIRIDIS[index],
        ColourMap::Cividis => CIVIDIS[index],
        ColourMap::Grey => return Color32::from_gray(index as u8),
    };
    from_hex(hex)
}

fn from_hex(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// Colour of a level, 0 to 1.
pub fn colour(colours: Colours, level: f32) -> Color32 {
    let level = if level.is_nan() { 0.0 } else { level.clamp(0.0, 1.0) };
    let directed = if colours.reversed { 1.0 - level } else { level };
    let at = directed * 255.0;
    let low = at.floor() as usize;
    let high = (low + 1).min(255);
    entry(colours.map, low).lerp_to_gamma(entry(colours.map, high), at - low as f32)
}

/// Colour of a level, 0 to 1, whose lowest 2 % fade into the panel.
pub fn faded(colours: Colours, level: f32, panel: Color32) -> Color32 {
    let t = (level / FADE).clamp(0.0, 1.0);
    panel.lerp_to_gamma(colour(colours, level), t * t * (3.0 - 2.0 * t))
}

/// Colour of a signed level, -1 to 1; nothing around 0, so that only what differs is seen.
pub fn diverging(level: f32, theme: &Theme) -> Color32 {
    let level = if level.is_nan() { 0.0 } else { level.clamp(-1.0, 1.0) };
    // The ends of the map are almost black: left out where the panel is dark.
    let reach = if theme.dark { 0.33 } else { 0.45 };
    let at = (0.5 + level * reach) * 255.0;
    let full = from_hex(VIK[at.round().clamp(0.0, 255.0) as usize]);
    theme.panel.lerp_to_gamma(full, (level.abs() / 0.25).min(1.0))
}

/// 256 RGBA texels in the order of the table; the shader reverses by itself.
pub(super) fn texels(colours: Colours) -> Vec<u8> {
    (0..256).flat_map(|index| entry(colours.map, index).to_array()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.
    fn luminance(colour: Color32) -> f32 {
        let linear = egui::Rgba::from(colour);
        0.2126 * linear.r() + 0.7152 * linear.g() + 0.0722 * linear.b()
    }

    #[test]
    fn every_sequential_map_grows_lighter_from_low_to_high() {
        for map in [ColourMap::Viridis, ColourMap::Cividis, ColourMap::Grey] {
            let levels: Vec<f32> = (0..256).map(|i| luminance(entry(map, i))).collect();
            for pair in levels.windows(2) {
                // The published tables fall by up to 0.0003 where eight bits round.
                assert!(pair[1] >= pair[0] - 0.0005, "{map:?}");
            }
            for step in levels.windows(9) {
                assert!(step[8] > step[0], "{map:?}");
            }
        }
    }

    #[test]
    fn viridis_has_its_published_ends() {
        assert_eq!(entry(ColourMap::Viridis, 0), Color32::from_rgb(0x44, 0x01, 0x54));
        assert_eq!(entry(ColourMap::Viridis, 255), Color32::from_rgb(0xfd, 0xe7, 0x25));
    }

    #[test]
    fn low_levels_are_the_panel_itself_in_both_themes() {
        for theme in [Theme::dark(), Theme::light()] {
            let colours = Colours::of(ColourMap::Viridis, &theme);
            assert_eq!(faded(colours, 0.0, theme.panel), theme.panel);
            assert_eq!(faded(colours, 0.5, theme.panel), colour(colours, 0.5));
            let contrast = (luminance(colour(colours, 1.0)) - luminance(theme.panel)).abs();
            assert!(contrast > 0.3);
        }
    }

    #[test]
    fn the_diverging_map_is_empty_at_zero_and_differs_by_sign() {
        let theme = Theme::dark();
        assert_eq!(diverging(0.0, &theme), theme.panel);
        let (low, high) = (diverging(-1.0, &theme), diverging(1.0, &theme));
        assert!(low.b() > low.r() && high.r() > high.b());
    }
}

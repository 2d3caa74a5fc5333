//! Colour maps for densities: perceptually uniform, safe for colour blindness.

use egui::Color32;

use crate::app::state::settings::ColourMap;

/// The colour at `share`, 0 (low) to 1 (high). In the light theme maps run the other way, so that
/// low always lies near the panel.
pub fn colour(map: ColourMap, dark: bool, share: f64) -> Color32 {
    let share = share.clamp(0.0, 1.0);
    let share = if dark { share } else { 1.0 - share };
    let colour = match map {
        ColourMap::Viridis => colorous::VIRIDIS.eval_continuous(share),
        ColourMap::Cividis => colorous::CIVIDIS.eval_continuous(share),
        // From white to black there; here from dark to light.
        ColourMap::Grey => colorous::GREYS.eval_continuous(1.0 - share),
    };
    Color32::from_rgb(colour.r, colour.g, colour.b)
}

/// 256 colours from low to high, RGBA.
pub fn table(map: ColourMap, dark: bool) -> Vec<u8> {
    (0..256).flat_map(|i| colour(map, dark, f64::from(i) / 255.0).to_array()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(colour: Color32) -> f64 {
        let linear = |v: u8| (f64::from(v) / 255.0).powf(2.2);
        0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
    }

    #[test]
    fn higher_is_always_lighter_in_the_dark_and_darker_in_the_light() {
        for map in [ColourMap::Viridis, ColourMap::Cividis, ColourMap::Grey] {
            for dark in [true, false] {
                let all: Vec<f64> =
                    (0..=32).map(|i| luminance(colour(map, dark, f64::from(i) / 32.0))).collect();
                for pair in all.windows(2) {
                    let rises = pair[1] > pair[0] - 2e-3;
                    assert!(if dark { rises } else { pair[1] < pair[0] + 2e-3 }, "{map:?} {dark}");
                }
            }
        }
    }

    #[test]
    fn viridis_begins_and_ends_as_published() {
        assert_eq!(colour(ColourMap::Viridis, true, 0.0), Color32::from_rgb(0x44, 0x01, 0x54));
        assert_eq!(colour(ColourMap::Viridis, true, 1.0), Color32::from_rgb(0xfd, 0xe7, 0x25));
    }
}

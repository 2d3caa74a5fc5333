//! Axes: from values to points, with ticks at round numbers.

/// What an axis shows.
#[derive(Debug, Clone)]
pub struct AxisSpec {
    /// Quantity and unit.
    pub label: String,
    pub low: f64,
    pub high: f64,
    pub scale: Scale,
    /// Ticks at whole numbers only.
    pub whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Both ends are above 0.
    Log,
}

impl AxisSpec {
    /// A linear axis that ends at round numbers around the values.
    pub fn around(label: impl Into<String>, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // A single value stands in the middle of something.
        let span = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
        let step = tick_step(span / TICKS);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        let high = if high > low { high } else { low + step };
        Self { label: label.into(), low, high, scale: Scale::Linear, whole: false }
    }

    /// A linear axis from 0 on.
    pub fn from_zero(label: impl Into<String>, values: impl Iterator<Item = f64>) -> Self {
        let largest = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = tick_step(largest / TICKS);
        let high = (largest / step).ceil() * step;
        Self { label: label.into(), low: 0.0, high, scale: Scale::Linear, whole: false }
    }

    /// A linear axis with these very ends.
    pub fn between(label: impl Into<String>, low: f64, high: f64) -> Self {
        Self { label: label.into(), low, high, scale: Scale::Linear, whole: false }
    }

    /// Ranks 1 to `last` on a logarithmic axis.
    pub fn ranks(label: impl Into<String>, last: usize) -> Self {
        let high = last.max(2) as f64;
        Self { label: label.into(), low: 1.0, high, scale: Scale::Log, whole: true }
    }

    /// Ticks at whole numbers only.
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }
}

/// About how many ticks a linear axis has.
const TICKS: f64 = 5.0;

/// An axis with its place: `from` is where `low` stands, in points.
#[derive(Debug, Clone)]
pub struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    whole: bool,
    from: f64,
    to: f64,
}

impl Axis {
    pub fn new(spec: &AxisSpec, from: f64, to: f64) -> Self {
        let AxisSpec { low, high, scale, whole, .. } = *spec;
        Self { low, high, scale, whole, from, to }
    }

    /// Where the low end stands.
    pub fn start(&self) -> f64 {
        self.from
    }

    /// Where a value stands; values beyond an end stand at it.
    pub fn position(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Values with a tick and what it says.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.linear_ticks(),
            Scale::Log => self.log_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<(f64, String)> {
        let mut step = tick_step((self.high - self.low) / TICKS);
        if self.whole {
            step = step.max(1.0);
        }
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|i| {
                let value = i as f64 * step;
                (value, format!("{value:.decimals$}"))
            })
            .collect()
    }

    fn log_ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10();
        // Few decades leave room between the powers of ten.
        let factors: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = 10f64.powf(self.low.log10().floor());
        while power <= self.high {
            for factor in factors {
                let value = factor * power;
                if value >= self.low * 0.999_999 && value <= self.high * 1.000_001 {
                    ticks.push((value, format!("{value}")));
                }
            }
            power *= 10.0;
        }
        ticks
    }
}

/// The next of 1, 2, 5 times a power of ten at or above `value`.
pub fn tick_step(value: f64) -> f64 {
    if value.is_nan() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= value * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(spec: &AxisSpec) -> Vec<String> {
        Axis::new(spec, 0.0, 100.0).ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers_and_cover_the_values() {
        let spec = AxisSpec::around("x", [0.013, 0.094].into_iter());
        assert_eq!(labels(&spec), ["0.00", "0.02", "0.04", "0.06", "0.08", "0.10"]);
        assert_eq!(labels(&AxisSpec::from_zero("x", [7.0].into_iter())), ["0", "2", "4", "6", "8"]);
        assert_eq!(
            labels(&AxisSpec::ranks("x", 741)),
            ["1", "2", "5", "10", "20", "50", "100", "200", "500"]
        );
        assert_eq!(labels(&AxisSpec::between("x", 1.0, 3.0).whole()), ["1", "2", "3"]);
    }

    #[test]
    fn one_value_alone_or_none_still_gives_an_axis() {
        for values in [vec![], vec![3.0], vec![f64::NAN], vec![0.0]] {
            let spec = AxisSpec::around("x", values.into_iter());
            assert!(spec.high > spec.low);
            assert!(labels(&spec).len() > 1);
        }
    }

    #[test]
    fn positions_run_from_end_to_end_on_both_scales() {
        let axis = Axis::new(&AxisSpec::ranks("x", 100), 10.0, 30.0);
        assert_eq!([1.0, 10.0, 100.0].map(|v| axis.position(v).round()), [10.0, 20.0, 30.0]);
        let axis = Axis::new(&AxisSpec::between("x", -1.0, 1.0), 100.0, 0.0);
        assert_eq!([-1.0, 0.0, 1.0, 9.0].map(|v| axis.position(v)), [100.0, 50.0, 0.0, 0.0]);
    }
}

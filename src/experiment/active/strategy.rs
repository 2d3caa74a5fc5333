//! How the next images to label are chosen.

use serde::{Deserialize, Serialize};

/// A rule that picks from the unlabelled part of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Any images: what every other strategy has to beat.
    Random,
    /// Largest total variance of the adapter (ProbVLM, arXiv 2307.00398, section 4.3).
    Total,
    /// Largest aleatoric variance.
    Aleatoric,
    /// Largest epistemic variance.
    Epistemic,
    /// Smallest difference of the two largest retrieval probabilities.
    Margin,
    /// Largest entropy of the retrieval softmax.
    Entropy,
    /// Farthest from everything labelled, one after the other (Sener and Savarese, ICLR 2018,
    /// arXiv 1708.00489, algorithm 1).
    KCenter,
    /// Largest mutual information of retrieval and the weights of the head (Houlsby et al., arXiv
    /// 1112.5745; dropout as in Gal et al., arXiv 1703.02910).
    Bald,
}

impl Strategy {
    pub const ALL: [Strategy; 8] = [
        Strategy::Random,
        Strategy::Total,
        Strategy::Aleatoric,
        Strategy::Epistemic,
        Strategy::Margin,
        Strategy::Entropy,
        Strategy::KCenter,
        Strategy::Bald,
    ];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Random => "random",
            Strategy::Total => "total",
            Strategy::Aleatoric => "aleatoric",
            Strategy::Epistemic => "epistemic",
            Strategy::Margin => "margin",
            Strategy::Entropy => "entropy",
            Strategy::KCenter => "k-center",
            Strategy::Bald => "bald",
        }
    }

    /// Whether it looks at an adapter's variances.
    pub fn needs_adapter(self) -> bool {
        matches!(self, Strategy::Total | Strategy::Aleatoric | Strategy::Epistemic)
    }

    /// Whether it looks at how pool images retrieve captions.
    pub fn needs_captions(self) -> bool {
        matches!(self, Strategy::Margin | Strategy::Entropy | Strategy::Bald)
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == text).ok_or_else(|| {
            let names: Vec<_> = Strategy::ALL.iter().map(|strategy| strategy.name()).collect();
            format!("unknown strategy {text:?}; expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_is_found_by_its_name_in_text_and_in_json() {
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse::<Strategy>().unwrap(), strategy);
            let json = serde_json::to_string(&strategy).unwrap();
            assert_eq!(json, format!("{:?}", strategy.name()));
        }
        assert!("margins".parse::<Strategy>().unwrap_err().contains("k-center"));
    }
}

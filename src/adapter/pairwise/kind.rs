//! The methods that are trained on pairs.

use serde::{Deserialize, Serialize};

use super::spherical::Spherical;

/// An adapter whose loss looks at the image-text pairs of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairwiseKind {
    /// Probabilistic Face Embeddings (arXiv 1904.09658) on frozen embeddings.
    Pfe,
    /// Probabilistic Cross-Modal Embeddings (arXiv 2101.05068) on frozen embeddings.
    Pcme,
    /// Improved PCME (arXiv 2305.18171) on frozen embeddings.
    #[serde(rename = "pcme++")]
    PcmePlusPlus,
    /// AsymVLM (arXiv 2505.11029) with von Mises-Fisher densities.
    AsymVmf,
    /// AsymVLM with power spherical densities.
    AsymPowerSpherical,
}

impl PairwiseKind {
    pub const ALL: [PairwiseKind; 5] = [
        PairwiseKind::Pfe,
        PairwiseKind::Pcme,
        PairwiseKind::PcmePlusPlus,
        PairwiseKind::AsymVmf,
        PairwiseKind::AsymPowerSpherical,
    ];

    /// Its name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            PairwiseKind::Pfe => "pfe",
            PairwiseKind::Pcme => "pcme",
            PairwiseKind::PcmePlusPlus => "pcme++",
            PairwiseKind::AsymVmf => "asym-vmf",
            PairwiseKind::AsymPowerSpherical => "asym-power-spherical",
        }
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            PairwiseKind::Pfe => "PFE",
            PairwiseKind::Pcme => "PCME",
            PairwiseKind::PcmePlusPlus => "PCME++",
            PairwiseKind::AsymVmf => "AsymVLM, vMF",
            PairwiseKind::AsymPowerSpherical => "AsymVLM, power spherical",
        }
    }

    /// The density on the sphere, for the methods that have one.
    pub(super) fn spherical(self) -> Option<Spherical> {
        match self {
            PairwiseKind::AsymVmf => Some(Spherical::VonMisesFisher),
            PairwiseKind::AsymPowerSpherical => Some(Spherical::Power),
            _ => None,
        }
    }

    /// Widths of the layers of its network, `[D, .., D]`. Without a hidden size: 256, as for the
    /// baselines of ProbVLM and GroVE, or 2D, as in AsymVLM's code.
    pub(super) fn widths(self, dim: usize, hidden_dim: usize) -> Vec<usize> {
        match self.spherical() {
            Some(_) => vec![dim, hidden_dim, hidden_dim, hidden_dim, dim],
            None => vec![dim, hidden_dim, hidden_dim, dim],
        }
    }

    /// The hidden size where none is asked for.
    pub(super) fn default_hidden_dim(self, dim: usize) -> usize {
        match self.spherical() {
            Some(_) => 2 * dim,
            None => 256,
        }
    }

    /// First values of the two learned scalars: a and b, or the temperatures of the densities that
    /// texts and images predict.
    pub(super) fn first_scalars(self) -> [f32; 2] {
        match self {
            PairwiseKind::Pfe => [0.0, 0.0],
            PairwiseKind::Pcme => [15.0, 15.0],
            PairwiseKind::PcmePlusPlus => [5.0, 5.0],
            PairwiseKind::AsymVmf | PairwiseKind::AsymPowerSpherical => [1.0, 1.0],
        }
    }
}

impl std::fmt::Display for PairwiseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for PairwiseKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        PairwiseKind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = PairwiseKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("unknown pairwise method {text:?}; expected one of {}", names.join(", "))
        })
    }
}

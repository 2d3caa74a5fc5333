//! The weighted mean of adapters, weight by weight.
//!
//! Adapters that were trained from one beginning often lie in one basin of the loss, where the
//! points between them are good too (Wortsman et al., "Model soups", ICML 2022, arXiv 2203.05482).
//! ProbVLM's model selection scores unlabelled data by such a mean of the adapters of all sources
//! (arXiv 2307.00398, table 2).

use super::ProbVlm;
use super::config::{ProbVlmConfig, UnitRows};
use super::network::Network;
use crate::adapter::AdapterError;
use crate::adapter::space::Space;

impl ProbVlm {
    /// The adapter whose weights and working spaces are the weighted means of those of `parts`.
    /// Shares are at least 0 and add up to 1; a part with share 1 comes back unchanged.
    ///
    /// It belongs to the parts' encoder where that is one, and was not trained itself.
    ///
    /// # Errors
    /// When there is no part, the shares are no shares, or two parts differ in what has no mean:
    /// modalities, sizes, densities, preset, dropout or kind of working space.
    pub fn weighted_mean(parts: &[(&ProbVlm, f64)]) -> Result<Self, AdapterError> {
        let refused = |what, found: String, expected: String| {
            Err(AdapterError::Average { what, found, expected })
        };
        let sum: f64 = parts.iter().map(|(_, share)| share).sum();
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        if !parts.iter().all(|(_, share)| is_share(share)) || (sum - 1.0).abs() > 1e-9 {
            let shares: Vec<String> = parts.iter().map(|(_, share)| share.to_string()).collect();
            let expected = "numbers of at least 0 that add up to 1".to_owned();
            return refused("the list of shares", format!("[{}]", shares.join(", ")), expected);
        }
        let [(first, _), rest @ ..] = parts else {
            return refused("the number of adapters", "0".to_owned(), "at least 1".to_owned());
        };
        for (part, _) in rest {
            let pairs = traits(&part.config).into_iter().zip(traits(&first.config));
            for ((what, found), (_, expected)) in pairs {
                if found != expected {
                    return refused(what, found, format!("{expected} like the first"));
                }
            }
        }
        let mean = |of: &dyn Fn(&ProbVlm) -> Option<f64>| -> Option<f64> {
            parts.iter().map(|(part, share)| Some(share * of(part)?)).sum()
        };
        let space = |of: &dyn Fn(&ProbVlm) -> &Space| {
            let spaces: Vec<(&Space, f64)> =
                parts.iter().map(|(p, share)| (of(p), *share)).collect();
            mean_space(&spaces)
        };
        let (input_space, output_space) =
            (space(&|part| &part.input_space), space(&|part| &part.output_space));
        let networks: Vec<(&Network, f64)> =
            parts.iter().map(|(part, share)| (&part.network, *share)).collect();
        let one_encoder = rest.iter().all(|(part, _)| part.config.encoder == first.config.encoder);
        let config = ProbVlmConfig {
            input_space: input_space.config(),
            output_space: output_space.config(),
            unit_rows: first.config.unit_rows.map(|_| UnitRows {
                target_norm: mean(&|part| part.config.unit_rows?.target_norm),
            }),
            encoder: first.config.encoder.clone().filter(|_| one_encoder),
            training: None,
            ..first.config.clone()
        };
        Ok(Self { config, input_space, output_space, network: Network::weighted_sum(&networks) })
    }
}

/// What has no mean, with names for people.
fn traits(config: &ProbVlmConfig) -> [(&'static str, String); 10] {
    [
        ("the input modality", config.input_modality.to_string()),
        ("the output modality", config.output_modality.to_string()),
        ("the number of dimensions", config.input_dim.to_string()),
        ("the width of the hidden layers", config.hidden_dim.to_string()),
        ("the family of densities", format!("{:?}", config.family)),
        ("the preset", config.preset.to_string()),
        ("the dropout", config.dropout.to_string()),
        ("the input space", space_trait(&config.input_space)),
        ("the output space", space_trait(&config.output_space)),
        (
            "the norm of the embeddings learned from",
            match config.unit_rows {
                None => "raw".to_owned(),
                Some(UnitRows { target_norm: None }) => "1".to_owned(),
                Some(UnitRows { target_norm: Some(_) }) => {
                    "1, with a norm for predictions".to_owned()
                }
            },
        ),
    ]
}

fn space_trait(space: &crate::adapter::SpaceConfig) -> String {
    match space.norm {
        None => format!("{} times {}", space.kind, space.factor),
        Some(_) => format!("{} times {}, with a norm", space.kind, space.factor),
    }
}

/// The mean of spaces of one kind.
fn mean_space(spaces: &[(&Space, f64)]) -> Space {
    let vector = |of: &dyn Fn(&Space) -> Option<&[f32]>| -> Vec<f32> {
        let mut sums: Vec<f64> = Vec::new();
        for (values, share) in spaces.iter().filter_map(|(space, share)| Some((of(space)?, share)))
        {
            sums.resize(values.len(), 0.0);
            sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += share * f64::from(*v));
        }
        sums.into_iter().map(|sum| sum as f32).collect()
    };
    match spaces[0].0 {
        Space::Unit { factor, .. } => {
            let norm = |space: &Space| match space {
                Space::Unit { norm, .. } => *norm,
                Space::Standardised { .. } => None,
            };
            let norm = spaces.iter().map(|(space, share)| Some(share * norm(space)?)).sum();
            Space::Unit { factor: *factor, norm }
        }
        Space::Standardised { .. } => Space::Standardised {
            mean: vector(&|space| match space {
                Space::Standardised { mean, .. } => Some(mean),
                Space::Unit { .. } => None,
            }),
            deviation: vector(&|space| match space {
                Space::Standardised { deviation, .. } => Some(deviation),
                Space::Unit { .. } => None,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{adapter, standardised, text};
    use super::*;
    use crate::adapter::probvlm::Preset;
    use crate::encoder::Modality;

    const DIM: usize = 8;

    fn pair() -> [ProbVlm; 2] {
        let first = adapter(Preset::Paper, standardised(DIM), DIM);
        let space = Space::Standardised { mean: vec![1.0; DIM], deviation: vec![3.0; DIM] };
        let mut second = adapter(Preset::Paper, space, DIM);
        second.network = Network::random(DIM, 2 * DIM, 8, &first.network.device());
        [first, second]
    }

    #[test]
    fn the_ends_are_the_parts_and_the_middle_is_the_mean_of_every_weight() {
        let [first, second] = &pair();
        let at =
            |share: f64| ProbVlm::weighted_mean(&[(first, 1.0 - share), (second, share)]).unwrap();
        let query = text(4, DIM);
        let predict = |adapter: &ProbVlm| adapter.predict(&query, 3, 1).unwrap();
        assert_eq!(predict(&at(0.0)), predict(first));
        assert_eq!(predict(&at(1.0)), predict(second));
        assert_ne!(predict(first), predict(second));
        let [from, middle, to] =
            [first, &at(0.25), second].map(|adapter| adapter.network.to_pytorch().unwrap());
        for ((from, middle), to) in from.iter().zip(&middle).zip(&to) {
            assert_eq!((&from.name, &from.shape), (&middle.name, &middle.shape));
            for ((a, m), b) in from.values.iter().zip(&middle.values).zip(&to.values) {
                assert!((0.75 * a + 0.25 * b - m).abs() < 1e-6, "{}", from.name);
            }
        }
        let (Space::Standardised { mean, deviation }, Space::Standardised { mean: own, .. }) =
            (&at(0.25).input_space, &first.input_space)
        else {
            panic!("a standardised space stays one")
        };
        assert!((mean[0] - (0.75 * own[0] + 0.25)).abs() < 1e-6 && deviation.len() == DIM);
        assert_eq!(at(0.5).config.encoder.as_deref(), Some("tower-7"));
    }

    #[test]
    fn a_mean_is_saved_and_forgets_the_encoder_where_there_are_two() {
        let [first, mut second] = pair();
        second.set_encoder("another tower".to_owned());
        let mean = ProbVlm::weighted_mean(&[(&first, 0.5), (&second, 0.5)]).unwrap();
        assert_eq!(mean.config.encoder, None);
        let folder = tempfile::tempdir().unwrap();
        mean.save(folder.path()).unwrap();
        let again = ProbVlm::load(folder.path(), &mean.network.device()).unwrap();
        let query = text(4, DIM);
        assert_eq!(again.predict(&query, 2, 0).unwrap(), mean.predict(&query, 2, 0).unwrap());
    }

    #[test]
    fn adapters_that_have_no_mean_are_told_apart() {
        let refused = |change: &dyn Fn(&mut ProbVlm), word: &str| {
            let [first, mut second] = pair();
            change(&mut second);
            let both = [(&first, 0.5), (&second, 0.5)];
            let error = ProbVlm::weighted_mean(&both).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        refused(&|a| a.config.input_modality = Modality::Image, "input modality is image");
        refused(&|a| a.config.hidden_dim = 99, "hidden layers is 99, expected 16");
        refused(&|a| a.config.preset = Preset::Released, "preset is released");
        refused(&|a| a.config.dropout = 0.5, "dropout is 0.5");
        refused(&|a| a.config.unit_rows = Some(UnitRows { target_norm: None }), "expected raw");
        refused(
            &|a| a.config.input_space = Space::Unit { factor: 1.0, norm: None }.config(),
            "input space is unit",
        );
        let [first, second] = &pair();
        for shares in [[0.5, 0.6], [-0.5, 1.5], [f64::NAN, 1.0]] {
            let both = [(first, shares[0]), (second, shares[1])];
            assert!(ProbVlm::weighted_mean(&both).is_err(), "{shares:?}");
        }
        assert!(ProbVlm::weighted_mean(&[]).is_err());
    }
}

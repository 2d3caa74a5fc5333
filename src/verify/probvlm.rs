//! Golden case of the ProbVLM adapter: outputs, losses, gradients, and three steps of Adam.

use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;

use super::{Case, CaseError};
use crate::adapter::ProbVlm;
use crate::adapter::loss::{HeadGradients, Loss, LossValue, Residual, with_gradients};
use crate::adapter::probvlm::{HeadOutputs, Network};
use crate::adapter::training::AdamOptimizer;
use crate::encoder::Modality;

#[derive(Deserialize)]
struct Constants {
    #[serde(rename = "T1")]
    l1_weight: f64,
    #[serde(rename = "T2")]
    nll_weight: f64,
    cross_modal_lambda: f64,
    residual_clamp: [f64; 2],
    adam: Adam,
}

/// The other coefficients of Adam are those of every reference run.
#[derive(Deserialize)]
struct Adam {
    lr: f64,
}

/// One modality: its name in the case, and the network.
type Side = (&'static str, Network);

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let images: Tensor<2> = case.float("image_embeddings", device)?;
    let texts: Tensor<2> = case.float("text_embeddings", device)?;
    let wide: Tensor<2> = case.float("wide", device)?;
    for file in checkpoints(case)? {
        for (name, network) in load(&file, device)? {
            let own = if name == "img" { &images } else { &texts };
            check_heads(case, &format!("{name}_"), network.forward(own.clone()))?;
            check_heads(case, &format!("wide/{name}_"), network.forward(wide.clone()))?;
        }
    }
    let constants: Constants = serde_json::from_value(case.json()["constants"].clone())?;
    for (name, residual) in [("exact", Residual::Power), ("published", Residual::Product)] {
        let loss = Loss {
            l1_weight: constants.l1_weight,
            nll_weight: constants.nll_weight,
            residual,
            clamp: Some(constants.residual_clamp),
            ..Loss::RELEASED
        };
        let training = device.clone().autodiff();
        let file = checkpoints(case)?.remove(0);
        check_training(
            case,
            &format!("loss_{name}"),
            &loss,
            &constants,
            load(&file, &training)?,
            [&images, &texts],
        )?;
    }
    Ok(())
}

/// The checkpoint files of the case; both layouts hold the same numbers.
fn checkpoints(case: &Case) -> Result<Vec<PathBuf>, CaseError> {
    let files: Vec<PathBuf> = ["model.pth", "model.safetensors"]
        .into_iter()
        .map(|name| case.folder().join(name))
        .filter(|path| path.is_file())
        .collect();
    match files.is_empty() {
        true => Err(CaseError("the case has neither model.pth nor model.safetensors".to_owned())),
        false => Ok(files),
    }
}

fn load(file: &std::path::Path, device: &Device) -> Result<[Side; 2], CaseError> {
    let network = |modality| -> Result<Network, CaseError> {
        Ok(ProbVlm::load_released(file, modality, device)?.network().clone())
    };
    Ok([("img", network(Modality::Image)?), ("txt", network(Modality::Text)?)])
}

fn check_heads(case: &mut Case, prefix: &str, outputs: HeadOutputs) -> Result<(), CaseError> {
    let shape = outputs.mu.dims();
    let values = outputs.read()?;
    let link = Loss::RELEASED.link;
    let plain = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
    let linked = |v: Vec<f32>| v.into_iter().map(|x| f64::from(link.apply(x))).collect();
    case.check_values(&format!("{prefix}mu"), &shape, plain(values.mu))?;
    let inverse_alpha = linked(values.inverse_alpha);
    case.check_values(&format!("{prefix}one_over_alpha"), &shape, inverse_alpha)?;
    case.check_values(&format!("{prefix}beta"), &shape, linked(values.beta))
}

/// The loss of one side: its own target, and λ times the other side's.
struct SideLoss {
    own: LossValue,
    crossed: LossValue,
    gradients: GradientsParams,
}

fn side_loss(
    network: &Network,
    loss: &Loss,
    lambda: f64,
    own: &Tensor<2>,
    crossed: &Tensor<2>,
) -> Result<SideLoss, CaseError> {
    let outputs = network.forward(Tensor::from_inner(own.clone()));
    let values = outputs.read()?;
    let mut gradients = HeadGradients::zeros(values.mu.len());
    let own = own.clone().try_into_vec_as::<f32>()?;
    let crossed = crossed.clone().try_into_vec_as::<f32>()?;
    let own = loss.accumulate(&values, &own, 1.0, &mut gradients);
    let crossed = loss.accumulate(&values, &crossed, lambda, &mut gradients);
    let HeadOutputs { mu, inverse_alpha, beta } = outputs;
    let gradients = with_gradients([mu, inverse_alpha, beta], gradients).backward();
    Ok(SideLoss { own, crossed, gradients: GradientsParams::from_grads(gradients, network) })
}

fn check_training(
    case: &mut Case,
    prefix: &str,
    loss: &Loss,
    constants: &Constants,
    sides: [Side; 2],
    embeddings: [&Tensor<2>; 2],
) -> Result<(), CaseError> {
    let lambda = constants.cross_modal_lambda;
    let total = |sides: &[SideLoss; 2]| -> f64 {
        sides.iter().map(|s| s.own.total + lambda * s.crossed.total).sum()
    };
    let [(image, mut image_network), (text, mut text_network)] = sides;
    let [images, texts] = embeddings;
    let (mut image_adam, mut text_adam) = (AdamOptimizer::default(), AdamOptimizer::default());
    let steps = case.expected(&format!("{prefix}/adam_losses"))?.values.len();
    let mut losses = Vec::new();
    for step in 0..steps {
        let both = [
            side_loss(&image_network, loss, lambda, images, texts)?,
            side_loss(&text_network, loss, lambda, texts, images)?,
        ];
        if step == 0 {
            let mut one = |name: &str, value| {
                case.check_values(&format!("{prefix}/{name}"), &[1], vec![value])
            };
            one("total", total(&both))?;
            one("i", both[0].own.total)?;
            one("t", both[1].own.total)?;
            one("i4t", both[0].crossed.total)?;
            one("t4i", both[1].crossed.total)?;
            for (name, network, side) in
                [(image, &image_network, &both[0]), (text, &text_network, &both[1])]
            {
                let gradients = network.clone().valid().map(&mut Gradients(&side.gradients));
                check_parameters(case, &format!("{prefix}/grad/{name}_BayesCap."), &gradients)?;
            }
        }
        losses.push(total(&both));
        let [image_side, text_side] = both;
        image_network = image_adam.step(constants.adam.lr, image_network, image_side.gradients);
        text_network = text_adam.step(constants.adam.lr, text_network, text_side.gradients);
    }
    case.check_values(&format!("{prefix}/adam_losses"), &[steps], losses)?;
    for (name, network) in [(image, &image_network), (text, &text_network)] {
        check_parameters(case, &format!("{prefix}/after_adam/{name}_BayesCap."), network)?;
    }
    Ok(())
}

/// Puts every gradient in the place of its parameter, so that it gets that name and layout.
struct Gradients<'a>(&'a GradientsParams);

impl ModuleMapper for Gradients<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.get::<D>(param.id);
        param.map(|value| gradient.unwrap_or_else(|| value.zeros_like()))
    }
}

/// Compares every parameter that the case has an expectation for.
fn check_parameters(case: &mut Case, prefix: &str, network: &Network) -> Result<(), CaseError> {
    for tensor in network.to_pytorch()? {
        let name = format!("{prefix}{}", tensor.name);
        if case.expects(&name) {
            let values = tensor.values.into_iter().map(f64::from).collect();
            case.check_values(&name, &tensor.shape, values)?;
        }
    }
    Ok(())
}

//! From what the user named to a full recipe: which model of a bundle serves which query.

use std::path::{Path, PathBuf};

use super::assets::Assets;
use super::error::SessionError;
use super::prompt_route;
use super::recipe::{Bridge, ModelRef, Models, Recipe, RecipeQuery};
use super::studies::routes::LeftOut;
use crate::adapter::{AdapterHeader, AdapterKind};
use crate::decoder::PipelineKind;
use crate::encoder::Modality;
use crate::files::FileError;

/// Name of the bundle that comes with Haze.
pub const DEMO_BUNDLE: &str = "demo";

/// The path that was named, or that part of the demo bundle.
pub fn or_demo(named: Option<&Path>, part: &str) -> PathBuf {
    named.map_or_else(|| Path::new(DEMO_BUNDLE).join(part), Path::to_owned)
}

/// The models as the user named them; what is not named comes from the bundle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelChoice {
    pub bundle: Option<PathBuf>,
    pub encoder: Option<PathBuf>,
    pub adapter: Option<PathBuf>,
    pub bridge: Option<Bridge>,
    /// Folder of a diffusion prior; naming one chooses that bridge.
    pub prior: Option<PathBuf>,
    pub decoder: Option<PathBuf>,
    pub gallery: Option<PathBuf>,
}

/// Which of the optional stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    pub decode: bool,
    pub search: bool,
}

/// A recipe with default numbers for a query.
///
/// # Errors
/// When a model is neither named nor in the bundle, or an adapter's config cannot be read.
pub fn new(
    query: RecipeQuery,
    choice: &ModelChoice,
    parts: Parts,
    assets: &Assets,
) -> Result<Recipe, SessionError> {
    let models = models(query.modality(), choice, parts, assets)?;
    Ok(Recipe::new(query, models))
}

/// An existing recipe with another query, other models or fewer stages.
///
/// # Errors
/// As [`new`].
pub fn changed(
    mut recipe: Recipe,
    query: Option<RecipeQuery>,
    choice: &ModelChoice,
    parts: Parts,
    assets: &Assets,
) -> Result<Recipe, SessionError> {
    let before = recipe.query.modality();
    if let Some(query) = query {
        recipe.query = query;
    }
    let modality = recipe.query.modality();
    if *choice != ModelChoice::default() || modality != before {
        // What the recipe names stays, unless the query's modality or the bridge asks for another.
        let old = &recipe.models;
        // Nothing of one experiment can be used in the other.
        let same_route = match prompt_folder(choice, assets) {
            Some(_) => old.bridge == Bridge::PromptEmbeddings,
            None => choice.decoder.is_none() || old.bridge != Bridge::PromptEmbeddings,
        };
        let keep = choice.bundle.is_none() && same_route;
        let keep_bridge =
            modality == before && same_route && choice.bridge.is_none() && choice.prior.is_none();
        let keep_adapter = keep_bridge && choice.bundle.is_none();
        let or_old = |named: &Option<PathBuf>, old: Option<&ModelRef>| {
            named.clone().or_else(|| old.filter(|_| keep).map(|m| m.path.clone()))
        };
        let merged = ModelChoice {
            bundle: choice.bundle.clone(),
            encoder: or_old(&choice.encoder, Some(&old.encoder)),
            adapter: or_old(&choice.adapter, old.adapter.as_ref().filter(|_| keep_adapter)),
            bridge: choice.bridge.or(Some(old.bridge).filter(|_| keep_bridge)),
            prior: or_old(
                &choice.prior,
                old.bridge_model.as_ref().filter(|_| keep_bridge && old.bridge == Bridge::Prior),
            ),
            decoder: or_old(&choice.decoder, old.decoder.as_ref()),
            gallery: or_old(&choice.gallery, old.gallery.as_ref()),
        };
        let wanted = Parts {
            decode: parts.decode && recipe.models.decoder.is_some(),
            search: parts.search && recipe.models.gallery.is_some(),
        };
        recipe.models = models(modality, &merged, wanted, assets)?;
    }
    if !parts.decode {
        recipe.models.decoder = None;
    }
    if !parts.search {
        recipe.models.gallery = None;
    }
    Ok(recipe)
}

fn models(
    modality: Modality,
    choice: &ModelChoice,
    parts: Parts,
    assets: &Assets,
) -> Result<Models, SessionError> {
    let bundle = choice.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE));
    if let Some(folder) = prompt_folder(choice, assets) {
        return prompt_models(modality, choice, folder, parts, &bundle, assets);
    }
    if choice.bridge == Some(Bridge::PromptEmbeddings) {
        return Err(SessionError::Mismatch(
            "prompt embeddings are those of a Stable Diffusion folder (StableDiffusionPipeline in \
             its model_index.json); name it by --decoder"
                .to_owned(),
        ));
    }
    let part = |named: &Option<PathBuf>, folder: &str| {
        // A name of the hub stands for the commit that is in the cache now, so that the same query
        // makes the same recipe until another one is pulled.
        ModelRef::new(assets.pin(&named.clone().unwrap_or_else(|| bundle.join(folder))))
    };
    if let Some(reason) = unfit_for_prior(choice) {
        return Err(SessionError::Mismatch(reason.to_owned()));
    }
    let decoder = parts.decode.then(|| part(&choice.decoder, "unclip"));
    let gallery = parts.search.then(|| part(&choice.gallery, "gallery"));
    let encoder = part(&choice.encoder, "clip");
    if choice.prior.is_some() || choice.bridge == Some(Bridge::Prior) {
        return Ok(Models {
            encoder,
            adapter: None,
            bridge: Bridge::Prior,
            bridge_model: Some(part(&choice.prior, "prior")),
            decoder,
            gallery,
        });
    }
    let (adapter, bridge) = match &choice.adapter {
        Some(path) => {
            let config = shared_adapter(path, &assets.resolve(path, "adapter")?)?;
            let bridge = choice.bridge.unwrap_or_else(|| default_bridge(modality, &config));
            (assets.pin(path), bridge)
        }
        None => {
            let bridge = choice.bridge.unwrap_or(match modality {
                Modality::Text => Bridge::CrossModal,
                Modality::Image => Bridge::None,
            });
            let output = match bridge {
                Bridge::CrossModal => Modality::Image,
                _ => modality,
            };
            let wanted = |config: &AdapterHeader| {
                config.kind == AdapterKind::ProbVlm
                    && config.input_modality == modality
                    && config.output_modality == output
            };
            (find_adapter(&bundle, assets, &format!("{modality} to {output}"), wanted)?, bridge)
        }
    };
    let kind = match bridge {
        Bridge::LinearMap => Some(AdapterKind::LinearMap),
        Bridge::MeanShift => Some(AdapterKind::MeanShift),
        Bridge::CrossModal | Bridge::Prior | Bridge::None | Bridge::PromptEmbeddings => None,
    };
    let bridge_model = kind
        .map(|kind| {
            find_adapter(&bundle, assets, &bridge.to_string(), |config| config.kind == kind)
        })
        .transpose()?
        .map(ModelRef::new);
    Ok(Models {
        encoder,
        adapter: Some(ModelRef::new(adapter)),
        bridge,
        bridge_model,
        decoder,
        gallery,
    })
}

/// The Stable Diffusion folder that was named, where one was: as the decoder, or, where nothing is
/// decoded, as the encoder alone.
fn prompt_folder<'a>(choice: &'a ModelChoice, assets: &Assets) -> Option<&'a Path> {
    let named = choice.decoder.as_deref().or(choice.encoder.as_deref())?;
    // A folder that does not exist is reported by who opens it.
    let folder = assets.resolve(named, "decoder").ok()?;
    PipelineKind::StableDiffusion.is_in(&folder).then_some(named)
}

/// The models of the route by prompt embeddings through one Stable Diffusion folder.
fn prompt_models(
    modality: Modality,
    choice: &ModelChoice,
    folder: &Path,
    parts: Parts,
    bundle: &Path,
    assets: &Assets,
) -> Result<Models, SessionError> {
    let mismatch = |text: String| Err(SessionError::Mismatch(text));
    if modality != Modality::Text {
        return Err(prompt_route::no_text());
    }
    if let Some(encoder) = choice.encoder.as_deref().filter(|encoder| *encoder != folder) {
        return mismatch(format!(
            "{} decodes embeddings of its own text encoder; leave --encoder {} out",
            folder.display(),
            encoder.display()
        ));
    }
    if let Some(gallery) = &choice.gallery {
        return mismatch(format!(
            "{} decodes prompt embeddings, which no gallery can be searched with; leave --gallery \
             {} out, or use an unCLIP decoder",
            folder.display(),
            gallery.display()
        ));
    }
    if let Some(bridge) = choice.bridge.filter(|bridge| *bridge != Bridge::PromptEmbeddings) {
        return mismatch(format!(
            "{} decodes prompt embeddings, which take no way to image space; leave --bridge \
             {bridge} out",
            folder.display()
        ));
    }
    let adapter = match &choice.adapter {
        Some(path) => path.clone(),
        None => find_adapter(bundle, assets, "prompt embeddings", |config| {
            config.kind == AdapterKind::PromptProbVlm
        })?,
    };
    Ok(Models {
        encoder: ModelRef::new(folder),
        adapter: Some(ModelRef::new(adapter)),
        bridge: Bridge::PromptEmbeddings,
        bridge_model: None,
        decoder: parts.decode.then(|| ModelRef::new(folder)),
        gallery: None,
    })
}

/// The header of an adapter of the shared space.
fn shared_adapter(named: &Path, path: &Path) -> Result<AdapterHeader, SessionError> {
    let mismatch = |what: &str| {
        Err(SessionError::Mismatch(format!(
            "{} {what}; name the Stable Diffusion folder whose text encoder it was trained with by \
             --decoder, or an adapter folder of the shared space",
            named.display()
        )))
    };
    if path.is_file() {
        return mismatch("is a file, as adapters of prompt embeddings may be");
    }
    let header = AdapterHeader::read(path)?;
    match header.kind {
        AdapterKind::PromptProbVlm => mismatch("is an adapter of prompt embeddings"),
        _ => Ok(header),
    }
}

/// The models of one route from a text to image space.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteModels {
    pub bridge: Bridge,
    /// None for a prior.
    pub adapter: Option<ModelRef>,
    /// The fitted map, or the prior.
    pub bridge_model: Option<ModelRef>,
}

/// The routes that a bundle and a choice of models have, in the order of [`Bridge::ALL`], and those
/// that are left out for want of a model. An adapter that is named is taken for the routes that it
/// fits.
///
/// # Errors
/// When there is no route at all.
pub fn routes(
    choice: &ModelChoice,
    assets: &Assets,
) -> Result<(Vec<RouteModels>, Vec<LeftOut>), SessionError> {
    let parts = Parts { decode: false, search: false };
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    let named = choice.adapter.as_deref().map(|path| {
        let header = AdapterHeader::read(&assets.resolve(path, "adapter")?)?;
        Ok::<_, SessionError>((path, header.output_modality))
    });
    let named = named.transpose()?;
    for bridge in Bridge::ALL {
        let output = match bridge {
            Bridge::CrossModal => Some(Modality::Image),
            Bridge::Prior | Bridge::PromptEmbeddings => None,
            Bridge::LinearMap | Bridge::MeanShift | Bridge::None => Some(Modality::Text),
        };
        let adapter = named.filter(|(_, of)| Some(*of) == output).map(|(path, _)| path.to_owned());
        let prior = choice.prior.clone().filter(|_| bridge == Bridge::Prior);
        let choice = ModelChoice { adapter, prior, bridge: Some(bridge), ..choice.clone() };
        let models = models(Modality::Text, &choice, parts, assets).and_then(|models| {
            if let Some(prior) = models.bridge_model.as_ref().filter(|_| bridge == Bridge::Prior) {
                assets.resolve(&prior.path, "prior")?;
            }
            Ok(models)
        });
        match models {
            Ok(Models { bridge, adapter, bridge_model, .. }) => {
                found.push(RouteModels { bridge, adapter, bridge_model });
            }
            Err(SessionError::NotFound { .. } | SessionError::NotCached { .. })
                if bridge == Bridge::Prior =>
            {
                let reason = "no prior is named (--prior), and the bundle has none".to_owned();
                left_out.push(LeftOut { route: bridge, reason });
            }
            Err(error) => left_out.push(LeftOut { route: bridge, reason: error.to_string() }),
        }
    }
    match left_out.first() {
        Some(first) if found.is_empty() => Err(SessionError::Mismatch(format!(
            "there is no route from text to image space to compare: {}",
            first.reason
        ))),
        _ => Ok((found, left_out)),
    }
}

/// Why a choice contradicts itself about a prior.
fn unfit_for_prior(choice: &ModelChoice) -> Option<&'static str> {
    let bridge = choice.bridge.unwrap_or(Bridge::Prior);
    if choice.prior.is_some() && bridge != Bridge::Prior {
        return Some("a prior is named, but the bridge is another one; use --bridge prior");
    }
    let by_prior = choice.prior.is_some() || choice.bridge == Some(Bridge::Prior);
    (by_prior && choice.adapter.is_some())
        .then_some("a prior draws image embeddings by itself; name no adapter beside it")
}

fn default_bridge(modality: Modality, config: &AdapterHeader) -> Bridge {
    if modality == Modality::Text && config.output_modality == Modality::Image {
        Bridge::CrossModal
    } else {
        Bridge::None
    }
}

/// The first adapter of the bundle, by name, that fits.
fn find_adapter(
    bundle: &Path,
    assets: &Assets,
    what: &str,
    fits: impl Fn(&AdapterHeader) -> bool,
) -> Result<PathBuf, SessionError> {
    let adapters = list_adapters(bundle, assets)?;
    match adapters.into_iter().find(|(_, config)| fits(config)) {
        Some((path, _)) => Ok(path),
        None => Err(SessionError::NoAdapter { bundle: bundle.to_owned(), what: what.to_owned() }),
    }
}

/// The adapter folders of a bundle, by name, with their configs.
///
/// # Errors
/// When the bundle has no adapters folder, or a config in it cannot be read.
pub fn list_adapters(
    bundle: &Path,
    assets: &Assets,
) -> Result<Vec<(PathBuf, AdapterHeader)>, SessionError> {
    let folder = bundle.join("adapters");
    let resolved = assets.resolve(&folder, "adapters folder")?;
    let entries = std::fs::read_dir(&resolved).map_err(FileError::read(&resolved))?;
    let mut names: Vec<_> =
        entries.flatten().filter(|e| e.path().is_dir()).map(|e| e.file_name()).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| Ok((folder.join(&name), AdapterHeader::read(&resolved.join(&name))?)))
        .collect()
}

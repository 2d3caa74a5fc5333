//! From what the user named to a full recipe: which model of a bundle serves which query.

use std::path::{Path, PathBuf};

use super::assets::Assets;
use super::error::SessionError;
use super::recipe::{Bridge, ModelRef, Models, Recipe, RecipeQuery};
use crate::adapter::{AdapterHeader, AdapterKind};
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
        let keep_adapter = modality == before && choice.bridge.is_none() && choice.bundle.is_none();
        let keep = choice.bundle.is_none();
        let old = &recipe.models;
        let or_old = |named: &Option<PathBuf>, old: Option<&ModelRef>| {
            named.clone().or_else(|| old.filter(|_| keep).map(|m| m.path.clone()))
        };
        let merged = ModelChoice {
            bundle: choice.bundle.clone(),
            encoder: or_old(&choice.encoder, Some(&old.encoder)),
            adapter: or_old(&choice.adapter, Some(&old.adapter).filter(|_| keep_adapter)),
            bridge: choice.bridge.or(Some(old.bridge).filter(|_| modality == before)),
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
    let part = |named: &Option<PathBuf>, folder: &str| {
        ModelRef::new(named.clone().unwrap_or_else(|| bundle.join(folder)))
    };
    let (adapter, bridge) = match &choice.adapter {
        Some(path) => {
            let config = AdapterHeader::read(&assets.resolve(path, "adapter")?)?;
            let bridge = choice.bridge.unwrap_or_else(|| default_bridge(modality, &config));
            (path.clone(), bridge)
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
        Bridge::CrossModal | Bridge::None => None,
    };
    let bridge_model = kind
        .map(|kind| {
            find_adapter(&bundle, assets, &bridge.to_string(), |config| config.kind == kind)
        })
        .transpose()?
        .map(ModelRef::new);
    Ok(Models {
        encoder: part(&choice.encoder, "clip"),
        adapter: ModelRef::new(adapter),
        bridge,
        bridge_model,
        decoder: parts.decode.then(|| part(&choice.decoder, "unclip")),
        gallery: parts.search.then(|| part(&choice.gallery, "gallery")),
    })
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

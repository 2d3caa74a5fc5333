//! Models that are loaded, and the check that those of a recipe fit each other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::assets::Assets;
use super::error::SessionError;
use super::event::Event;
use super::galleries::Gallery;
use super::recipe::{self, ModelRef, Recipe};
use super::{Job, fingerprint};
use crate::adapter::Adapter;
use crate::adapter::bridge::Bridge;
use crate::decoder::UnClipPipeline;
use crate::encoder::{ClipEncoder, Modality};
use crate::model::device::ComputeDevice;

/// The model of each role that was used last. Each role has a lock of its own: loading a decoder
/// does not hold up who needs an encoder.
#[derive(Default)]
pub struct Loaded {
    encoder: Slot<ClipEncoder>,
    adapter: Slot<Adapter>,
    bridge: Slot<Bridge>,
    decoder: Slot<UnClipPipeline>,
    gallery: Mutex<Option<Arc<Gallery>>>,
}

type Slot<T> = Mutex<Option<Cached<T>>>;

struct Cached<T> {
    path: PathBuf,
    hash: String,
    model: Arc<T>,
}

impl Loaded {
    pub fn encoder(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<ClipEncoder>, SessionError> {
        get(&self.encoder, "encoder", reference, assets, job, |path| {
            Ok(ClipEncoder::load(path, &device.device)?)
        })
    }

    pub fn adapter(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<Adapter>, SessionError> {
        get(&self.adapter, "adapter", reference, assets, job, |path| {
            Ok(Adapter::load(path, &device.device)?)
        })
    }

    pub fn bridge(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        job: &mut Job<'_>,
    ) -> Result<Arc<Bridge>, SessionError> {
        get(&self.bridge, "bridge", reference, assets, job, |path| Ok(Bridge::load(path)?))
    }

    pub fn decoder(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<UnClipPipeline>, SessionError> {
        get(&self.decoder, "decoder", reference, assets, job, |path| {
            Ok(UnClipPipeline::load(path, &device.device)?)
        })
    }

    /// A gallery is opened anew when its content or the encoder changed.
    pub fn gallery(
        &self,
        reference: &mut ModelRef,
        encoder_reference: &ModelRef,
        assets: &Assets,
        encoder: &ClipEncoder,
        job: &mut Job<'_>,
    ) -> Result<Arc<Gallery>, SessionError> {
        let unchanged = |gallery: &Arc<Gallery>| {
            gallery.path == reference.path && gallery.encoder_hash == encoder_reference.hash
        };
        let mut slot = lock(&self.gallery);
        let gallery = match slot.take().filter(unchanged) {
            Some(gallery) => gallery,
            None => Arc::new(Gallery::open(reference, encoder_reference, assets, encoder, job)?),
        };
        note_hash("gallery", reference, &gallery.hash, job)?;
        *slot = Some(Arc::clone(&gallery));
        Ok(gallery)
    }
}

/// The cached model of that path, or a fresh one. Fills in the reference's hash; warns when the
/// recipe was made with other files.
fn get<T>(
    slot: &Slot<T>,
    what: &'static str,
    reference: &mut ModelRef,
    assets: &Assets,
    job: &mut Job<'_>,
    load: impl FnOnce(&Path) -> Result<T, SessionError>,
) -> Result<Arc<T>, SessionError> {
    let path = assets.resolve(&reference.path, what)?;
    let mut slot = lock(slot);
    let cached = match slot.take().filter(|cached| cached.path == path) {
        Some(cached) => cached,
        None => {
            let model = Arc::new(load(&path)?);
            Cached { hash: fingerprint::of_folder(&path)?, path, model }
        }
    };
    note_hash(what, reference, &cached.hash, job)?;
    let model = Arc::clone(&cached.model);
    *slot = Some(cached);
    Ok(model)
}

/// A slot whose last holder panicked is empty or holds a whole model: either can be used.
fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the hash of what is used into the reference; warns when the recipe named another.
pub fn note_hash(
    what: &'static str,
    reference: &mut ModelRef,
    hash: &str,
    job: &mut Job<'_>,
) -> Result<(), SessionError> {
    if !reference.hash.is_empty() && reference.hash != hash {
        job.tell(Event::Warning(format!(
            "the {what} {} is not the one the recipe was made with (BLAKE3 {}, expected {}); the \
             result will differ",
            reference.path.display(),
            short(hash),
            short(&reference.hash)
        )))?;
    }
    reference.hash = hash.to_owned();
    Ok(())
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Checks that query, encoder, adapter, bridge and decoder speak of the same spaces.
///
/// # Errors
/// Names the two that do not fit, and what to change.
pub fn check_route(
    recipe: &Recipe,
    encoder: &ClipEncoder,
    adapter: &Adapter,
    bridge: Option<&Bridge>,
) -> Result<(), SessionError> {
    let mismatch = |text: String| Err(SessionError::Mismatch(text));
    let modality = recipe.query.modality();
    let named = recipe.models.adapter.path.display();
    if adapter.input_modality() != modality {
        return mismatch(format!(
            "the adapter {named} reads {} embeddings, but the query is {modality}; name another by \
             --adapter, or none to take the bundle's",
            adapter.input_modality()
        ));
    }
    if adapter.dim() != encoder.dim() {
        return mismatch(format!(
            "the adapter {named} reads embeddings of {} dimensions, the encoder makes {}; use the \
             encoder that the adapter was trained with",
            adapter.dim(),
            encoder.dim()
        ));
    }
    let output = adapter.output_modality();
    match recipe.models.bridge {
        recipe::Bridge::CrossModal if output != Modality::Image => mismatch(format!(
            "the bridge is cross-modal, but the adapter {named} predicts {output} embeddings; name a \
             text to image adapter, or --bridge linear-map, mean-shift or none"
        )),
        recipe::Bridge::LinearMap | recipe::Bridge::MeanShift if output == Modality::Image => {
            mismatch(format!(
                "the adapter {named} predicts image embeddings already; a {} bridge is for text \
                 embeddings, use --bridge {}",
                recipe.models.bridge,
                if modality == Modality::Text { "cross-modal" } else { "none" }
            ))
        }
        _ => match bridge {
            Some(bridge) if bridge.config().input_dim != adapter.dim() => mismatch(format!(
                "the bridge maps {} dimensions, the adapter {named} predicts {}; fit it again with \
                 haze train",
                bridge.config().input_dim,
                adapter.dim()
            )),
            _ => Ok(()),
        },
    }
}

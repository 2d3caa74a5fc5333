//! Pictures on the graphics device: tiles of results, and thumbnails of image files, which are
//! read by workers and forgotten when they were not seen for long.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::RgbImage;

use crate::query::{AlphaPolicy, read_image};

/// Threads that read image files.
const READERS: usize = 2;
/// Edge of a thumbnail in pixels.
pub const THUMBNAIL_SIDE: u32 = 192;
/// Bytes of textures that are kept.
const BUDGET: usize = 64 << 20;
/// Thumbnails uploaded in one frame.
const UPLOADS: usize = 8;

/// A texture and the content it shows.
struct Slot {
    texture: TextureHandle,
    version: u64,
    last_seen: u64,
    bytes: usize,
}

/// What is known of an image file.
enum Thumbnail {
    Asked,
    Ready(Slot),
    Failed(String),
}

/// What [`Textures::thumbnail`] gives.
pub enum ThumbnailState {
    Loading,
    Ready(TextureHandle),
    /// Why the file cannot be shown.
    Failed(String),
}

type Read = (PathBuf, Result<RgbImage, String>);

/// The cache.
pub struct Textures {
    context: Context,
    frame: u64,
    tiles: HashMap<egui::Id, Slot>,
    thumbnails: HashMap<PathBuf, Thumbnail>,
    ask: Sender<PathBuf>,
    read: Receiver<Read>,
}

impl Textures {
    pub fn new(context: &Context) -> Self {
        let (ask, asked) = std::sync::mpsc::channel::<PathBuf>();
        let (send, read) = std::sync::mpsc::channel::<Read>();
        let asked = Arc::new(Mutex::new(asked));
        for number in 0..READERS {
            let (asked, send, context) = (Arc::clone(&asked), send.clone(), context.clone());
            let work = move || {
                loop {
                    let next = asked.lock().map(|asked| asked.recv());
                    let Ok(Ok(path)) = next else { return };
                    let image = thumbnail(&path);
                    if send.send((path, image)).is_err() {
                        return;
                    }
                    context.request_repaint_of(egui::ViewportId::ROOT);
                }
            };
            // Without readers thumbnails stay empty; nothing else depends on them.
            let _ = std::thread::Builder::new().name(format!("thumbnails {number}")).spawn(work);
        }
        Self {
            context: context.clone(),
            frame: 0,
            tiles: HashMap::new(),
            thumbnails: HashMap::new(),
            ask,
            read,
        }
    }

    /// Takes in what the readers have read and forgets what was not seen for long. Once a frame.
    pub fn begin_frame(&mut self) {
        self.frame += 1;
        for (path, image) in self.read.try_iter().take(UPLOADS) {
            let state = match image {
                Ok(image) => {
                    let name = path.display().to_string();
                    Thumbnail::Ready(upload(&self.context, &name, &image, 0, self.frame))
                }
                Err(reason) => Thumbnail::Failed(reason),
            };
            self.thumbnails.insert(path, state);
        }
        self.evict();
    }

    /// The texture of a picture that lives in memory. `id` names the place, `version` the content.
    pub fn picture(&mut self, id: egui::Id, version: u64, image: &RgbImage) -> TextureHandle {
        let frame = self.frame;
        let slot = self.tiles.get_mut(&id).filter(|slot| {
            slot.texture.size() == [image.width() as usize, image.height() as usize]
        });
        match slot {
            Some(slot) => {
                slot.last_seen = frame;
                if slot.version != version {
                    slot.version = version;
                    slot.texture.set_partial([0, 0], colour_image(image), options());
                }
                slot.texture.clone()
            }
            None => {
                let slot = upload(&self.context, "picture", image, version, frame);
                let texture = slot.texture.clone();
                self.tiles.insert(id, slot);
                texture
            }
        }
    }

    /// The thumbnail of an image file; the first call asks for it.
    pub fn thumbnail(&mut self, path: &Path) -> ThumbnailState {
        match self.thumbnails.get_mut(path) {
            Some(Thumbnail::Ready(slot)) => {
                slot.last_seen = self.frame;
                ThumbnailState::Ready(slot.texture.clone())
            }
            Some(Thumbnail::Asked) => ThumbnailState::Loading,
            Some(Thumbnail::Failed(reason)) => ThumbnailState::Failed(reason.clone()),
            None => {
                self.thumbnails.insert(path.to_owned(), Thumbnail::Asked);
                let _ = self.ask.send(path.to_owned());
                ThumbnailState::Loading
            }
        }
    }

    /// Bytes of all textures held.
    pub fn bytes(&self) -> usize {
        let thumbnails = self.thumbnails.values().map(|thumbnail| match thumbnail {
            Thumbnail::Ready(slot) => slot.bytes,
            _ => 0,
        });
        self.tiles.values().map(|slot| slot.bytes).sum::<usize>() + thumbnails.sum::<usize>()
    }

    fn evict(&mut self) {
        if self.bytes() <= BUDGET {
            return;
        }
        // Keep what was seen in the last frames; of the rest, drop all: it is read again quickly.
        let recent = self.frame.saturating_sub(120);
        self.tiles.retain(|_, slot| slot.last_seen >= recent);
        self.thumbnails.retain(|_, thumbnail| match thumbnail {
            Thumbnail::Ready(slot) => slot.last_seen >= recent,
            _ => true,
        });
    }
}

fn thumbnail(path: &Path) -> Result<RgbImage, String> {
    let read = || -> Result<RgbImage, String> {
        let image = read_image(path).map_err(|error| error.to_string())?;
        let image = image.to_rgb(AlphaPolicy::White);
        let side = image.width().max(image.height());
        if side <= THUMBNAIL_SIDE {
            return Ok(image);
        }
        let scale = f64::from(THUMBNAIL_SIDE) / f64::from(side);
        let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        Ok(image::imageops::thumbnail(&image, scaled(image.width()), scaled(image.height())))
    };
    // Decoders may panic on hostile files.
    std::panic::catch_unwind(read)
        .unwrap_or_else(|_| Err(format!("{}: the image decoder failed", path.display())))
}

fn upload(context: &Context, name: &str, image: &RgbImage, version: u64, frame: u64) -> Slot {
    Slot {
        texture: context.load_texture(name, colour_image(image), options()),
        version,
        last_seen: frame,
        bytes: image.width() as usize * image.height() as usize * 4,
    }
}

fn options() -> TextureOptions {
    TextureOptions::LINEAR
}

/// Pixels as egui takes them.
pub fn colour_image(image: &RgbImage) -> ColorImage {
    ColorImage::from_rgb([image.width() as usize, image.height() as usize], image.as_raw())
}

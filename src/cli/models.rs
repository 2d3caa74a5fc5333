//! `haze models`: look into model folders and weight files.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use serde_json::json;

use super::{Context, Exit, table};
use crate::model::inspect::{ModelFolder, inspect};
use crate::session::fingerprint;

/// Look into model folders and weight files
#[derive(Debug, Args)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Say what a model folder or a weight file holds
    Inspect(Inspect),
}

#[derive(Debug, Args)]
struct Inspect {
    /// A model folder, a bundle part such as demo/unclip, or a weight file
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
}

impl Models {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        match &self.command {
            ModelsCommand::Inspect(inspect) => inspect.run(context),
        }
    }
}

impl Inspect {
    fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let path = context.assets()?.resolve(&self.path, "model")?;
        let mut folders = inspect(&path)?;
        let hash = fingerprint::of_folder(&path)?;
        let text = self.text(&path.display().to_string(), &hash, &folders);
        if !self.tensors {
            for file in folders.iter_mut().flat_map(|folder| &mut folder.weights) {
                file.tensors.clear();
            }
        }
        context.print(&json!({ "path": path, "blake3": hash, "parts": folders }), text)?;
        Ok(Exit::Success)
    }

    fn text(&self, path: &str, hash: &str, folders: &[ModelFolder]) -> String {
        let mut text = format!("{path}\nblake3 {hash}\n");
        for folder in folders {
            let class = folder.class.as_deref().unwrap_or("no class named");
            text += &format!("\n{}  {class}\n", folder.name);
            for (key, value) in &folder.config {
                let value = table::shorten(&value.to_string(), 70);
                text += &format!("    {key:<34} {value}\n");
            }
            for file in &folder.weights {
                let dtypes: Vec<String> =
                    file.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
                text += &format!(
                    "    {}: {} parameters in {} tensors ({}), {}\n",
                    file.name,
                    file.parameters,
                    file.tensors.len(),
                    dtypes.join(", "),
                    table::bytes(file.bytes)
                );
                for tensor in file.tensors.iter().filter(|_| self.tensors) {
                    text += &format!("      {} {} {:?}\n", tensor.name, tensor.dtype, tensor.shape);
                }
            }
        }
        text
    }
}

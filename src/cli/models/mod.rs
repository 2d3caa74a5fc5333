//! `haze models`: download models, list those that are here, look into them.

mod inspect;
mod list;
mod pull;

use clap::{Args, Subcommand};

use super::{Context, Exit};

/// Download models from the hub, list those that are here, look into them
#[derive(Debug, Args)]
pub struct Models {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List the models in the bundles and in the hub's cache, and what each can do
    List(list::List),
    /// Download a model from the Hugging Face hub into its cache
    Pull(pull::Pull),
    /// Say what a model folder or a weight file holds
    Inspect(inspect::Inspect),
}

impl Models {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        match &self.command {
            ModelsCommand::List(list) => list.run(context),
            ModelsCommand::Pull(pull) => pull.run(context),
            ModelsCommand::Inspect(inspect) => inspect.run(context),
        }
    }
}

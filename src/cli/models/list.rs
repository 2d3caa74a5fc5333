//! `haze models list`: the models of this machine.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Context, Exit, table};
use crate::model::hub::cache::{CachedRepo, CachedRevision, size_of};
use crate::model::hub::contents::{Ability, ability, missing_weights, models_below};

/// List the models in the bundles and in the hub's cache, and what each can do
#[derive(Debug, Args)]
#[command(after_help = "NAME is what --encoder, --decoder and --adapter take.")]
pub struct List {
    /// Models of the hub's cache that Haze cannot use, too
    #[arg(long)]
    all: bool,
}

/// One model.
#[derive(Debug, Serialize)]
struct Row {
    /// What options take.
    name: String,
    /// The commit in the hub's cache.
    commit: Option<String>,
    refs: Vec<String>,
    folder: Option<PathBuf>,
    bytes: u64,
    /// Whether all of its files are here.
    complete: bool,
    ability: Option<Ability>,
}

impl List {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        let cache = &assets.hub().cache;
        let mut rows = bundled(assets.root())?;
        for repo in cache.repos()? {
            let cached = of_repo(&repo);
            rows.extend(
                cached.into_iter().filter(|row| self.all || row.ability.is_some() || !row.complete),
            );
        }
        let columns = [
            table::words("name"),
            table::words("revision"),
            table::numbers("size"),
            table::words("what it can do"),
        ];
        let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        let text = format!(
            "{}\n  bundles: {}\n  hub cache: {}\n",
            table::render(&columns, &cells),
            assets.root().display(),
            cache.folder().display()
        );
        let json = json!({ "assets": assets.root(), "hub_cache": cache.folder(), "models": rows });
        context.print(&json, text)?;
        Ok(Exit::Success)
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let short = |commit: &String| commit.chars().take(8).collect::<String>();
        let revision = match (&self.commit, self.refs.as_slice()) {
            (Some(commit), []) => short(commit),
            (Some(commit), refs) => format!("{} ({})", refs.join(", "), short(commit)),
            (None, _) => String::new(),
        };
        let what = match (&self.ability, self.complete) {
            (Some(ability), true) => ability.to_string(),
            (None, true) => "nothing that Haze knows".to_owned(),
            (_, false) => format!("incomplete; haze models pull {} goes on", self.name),
        };
        vec![self.name.clone(), revision, table::bytes(self.bytes), what]
    }
}

/// Models in the bundles.
fn bundled(root: &Path) -> anyhow::Result<Vec<Row>> {
    let models = models_below(root)?.into_iter().map(|(folder, ability)| {
        let name = folder.strip_prefix(root).unwrap_or(&folder).components();
        let name: Vec<_> = name.map(|c| c.as_os_str().to_string_lossy()).collect();
        Ok(Row {
            name: name.join("/"),
            commit: None,
            refs: Vec::new(),
            bytes: size_of(&folder)?,
            folder: Some(folder),
            complete: true,
            ability: Some(ability),
        })
    });
    models.collect()
}

/// Revisions of a repository in the cache, and what an interrupted pull left.
fn of_repo(repo: &CachedRepo) -> Vec<Row> {
    let mut rows: Vec<Row> =
        repo.revisions.iter().map(|revision| of_revision(&repo.repo, revision)).collect();
    if !repo.incomplete.is_empty() {
        rows.push(Row {
            name: repo.repo.clone(),
            commit: None,
            refs: Vec::new(),
            folder: None,
            bytes: repo.incomplete.iter().sum(),
            complete: false,
            ability: None,
        });
    }
    rows
}

fn of_revision(repo: &str, revision: &CachedRevision) -> Row {
    Row {
        name: revision.name(repo),
        commit: Some(revision.commit.clone()),
        refs: revision.refs.clone(),
        folder: Some(revision.folder.clone()),
        bytes: revision.bytes,
        complete: revision.missing == 0 && missing_weights(&revision.folder).is_empty(),
        ability: ability(&revision.folder),
    }
}

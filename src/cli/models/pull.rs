//! `haze models pull`: a model of the hub into its cache.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::exit::usage;
use crate::cli::progress::Progress;
use crate::cli::{Context, Exit, table};
use crate::model::hub::selection::Wanted;
use crate::model::hub::{
    Connection, HubError, HubName, HubPlace, PullEvent, PullPlan, PullRequest, download,
};

/// A pause shorter than this is not worth a word.
const SHORT_PAUSE: Duration = Duration::from_secs(2);

/// Download a model from the Hugging Face hub into its cache
///
/// Takes what Haze needs: safetensors in one variant, configs and tokenizers; never pickles.
/// An interrupted download goes on where it stopped. Every file is checked against its checksum.
/// transformers and diffusers find the result in the same cache.
#[derive(Debug, Args)]
#[command(after_help = "Environment: HF_HOME, HF_HUB_CACHE (where the cache is), HF_ENDPOINT, \
HF_TOKEN or HF_TOKEN_PATH (for private and gated models), HF_HUB_OFFLINE.")]
pub struct Pull {
    /// The model, as owner/name or owner/name@revision
    #[arg(value_name = "NAME")]
    name: HubName,
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Weights with this word in their name, such as fp16, where the model has them
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Download exactly the files that match, such as "unet/*"; may be repeated
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Leave out the files that match; may be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// List the files and sizes, download nothing
    #[arg(long)]
    dry_run: bool,
    /// Accept the licence of a gated model without being asked
    #[arg(long, alias = "accept-license")]
    accept_licence: bool,
}

impl Pull {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let name = match (&self.revision, self.name.named_revision()) {
            (Some(option), Some(named)) if option != named => {
                return Err(usage(format!(
                    "--revision is {option}, but the name says @{named}; give one of them"
                )));
            }
            (Some(option), _) => self.name.at(option)?,
            (None, _) => self.name.clone(),
        };
        let wanted = Wanted {
            variant: self.variant.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
        };
        let place = HubPlace::from_env();
        let connection = Connection::new(place)?;
        let progress = Progress::new(context.options.quiet);
        progress.start(&format!("asking for {name}"));
        let mut show = |event: PullEvent<'_>| {
            show(&progress, event);
            context.interrupt.flow()
        };
        let plan = PullPlan::make(&connection, &PullRequest { name, wanted }, &mut show)?;
        progress.finish();
        if self.dry_run {
            context.print(&report(&plan, None), describe(&plan, true))?;
            return Ok(Exit::Success);
        }
        if !context.options.quiet {
            eprint!("{}", describe(&plan, false));
        }
        self.accept(&plan)?;
        let progress = Progress::new(context.options.quiet);
        progress.start(&plan.name.to_string());
        let mut show = |event: PullEvent<'_>| {
            self::show(&progress, event);
            context.interrupt.flow()
        };
        match download(&connection, &plan, &mut show) {
            Ok(folder) => {
                progress.finish();
                let text = format!("{}\n{}\n", plan.pinned()?, folder.display());
                context.print(&report(&plan, Some(&folder)), text)?;
                Ok(Exit::Success)
            }
            Err(HubError::Cancelled) => {
                progress.finish();
                eprintln!("haze: interrupted; the same command goes on from here");
                let json = json!({ "error": "interrupted", "exit_code": Exit::Interrupted as u8 });
                context.print(&json, "")?;
                Ok(Exit::Interrupted)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A gated model is not downloaded before its licence was seen and accepted.
    fn accept(&self, plan: &PullPlan) -> anyhow::Result<()> {
        let licence = &plan.licence;
        if !licence.gated || self.accept_licence {
            return Ok(());
        }
        let refused = HubError::LicenceNotAccepted {
            repo: plan.name.repo(),
            licence: licence.name.clone(),
            page: licence.page.clone(),
        };
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(refused.into());
        }
        eprint!("Do you accept the licence? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(refused.into()),
        }
    }
}

fn show(progress: &Progress, event: PullEvent<'_>) {
    match event {
        PullEvent::File { path, bytes, have } => {
            progress.message(path.to_owned());
            if have > 0 {
                let (have, bytes) = (table::bytes(have), table::bytes(bytes));
                progress.note(&format!("{path}: {have} of {bytes} are here, going on"));
            }
        }
        PullEvent::Bytes { done, total } => progress.advance_bytes(done, total),
        PullEvent::Waiting { why, pause } if pause >= SHORT_PAUSE => {
            progress.message(format!("{why}; again in {} s", pause.as_secs()));
        }
        PullEvent::Waiting { .. } | PullEvent::Tick => {}
    }
}

/// The plan in words; `files`: each of them.
fn describe(plan: &PullPlan, files: bool) -> String {
    let mut text = format!("{} at {}\n", plan.name, plan.commit);
    let licence = &plan.licence;
    text += &format!("  licence  {}", licence.name);
    if let Some(link) = &licence.link {
        text += &format!(", {link}");
    }
    text += "\n";
    if licence.gated {
        text += &format!("  gated    terms at {}\n", licence.page);
        for line in licence.terms.iter().flat_map(|terms| terms.lines()) {
            text += &format!("           {line}\n");
        }
    }
    text += &format!(
        "  files    {}, {}; {} to download",
        plan.files.len(),
        table::bytes(plan.bytes),
        table::bytes(plan.download_bytes)
    );
    if let Some(free) = plan.free_bytes {
        text += &format!(", {} free", table::bytes(free));
    }
    text += "\n";
    if !files {
        return text;
    }
    let taken = plan.files.iter().map(|planned| {
        let what = if planned.cached { "in the cache" } else { "to download" };
        vec![planned.file.path.clone(), table::bytes(planned.file.bytes), what.to_owned()]
    });
    let skipped = plan.skipped.iter().map(|file| {
        vec![file.path.clone(), table::bytes(file.bytes), format!("left out: {}", file.why)]
    });
    let rows: Vec<Vec<String>> = taken.chain(skipped).collect();
    let columns = [table::words("file"), table::numbers("size"), table::words("")];
    text + "\n" + &table::render(&columns, &rows)
}

fn report(plan: &PullPlan, folder: Option<&std::path::Path>) -> serde_json::Value {
    json!({
        "repo": plan.name.repo(),
        "revision": plan.name.revision(),
        "commit": plan.commit,
        "folder": folder,
        "licence": plan.licence,
        "files": plan.files,
        "skipped": plan.skipped,
        "bytes": plan.bytes,
        "download_bytes": plan.download_bytes,
        "free_bytes": plan.free_bytes,
    })
}

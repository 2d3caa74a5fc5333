//! The command line: every capability of Haze, headless; without a command, the window.

mod active;
mod annotate;
mod bench;
mod decode;
mod demo;
mod doctor;
mod embed;
mod evaluate;
mod exit;
mod index;
mod interrupt;
mod models;
mod options;
mod progress;
mod replay;
mod sample;
mod search;
mod select;
mod serve;
mod study;
mod system;
mod table;
mod train;
mod verify;
mod window;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;
use interrupt::Interrupt;
use options::GlobalOptions;

use crate::model::device::ComputeDevice;
use crate::session::{Assets, SessionError};

/// See what a vision-language model is unsure about.
///
/// Haze embeds a text or an image with a frozen encoder, predicts the distribution of that
/// embedding, draws samples from it, decodes every sample to an image, and ranks a gallery by each.
///
/// Without a command Haze opens its window; the commands below need no display.
#[derive(Debug, Parser)]
#[command(name = "haze", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 success, 1 internal error, 2 wrong usage, 3 unusable input \
file, 4 device or computation failed, 5 result could not be written, 6 a check failed (verify, \
replay), 7 no window can be opened, 130 interrupted.")]
pub struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the main job on the demo bundle: "a slice of cake", in the window where there is a display
    Demo(demo::Demo),
    /// Sample a query's embedding distribution, decode the samples, rank the gallery by each
    Sample(sample::Sample),
    /// Walks along dimensions, embeddings x noises, ladders, evaluation on a gallery
    Study(study::Study),
    /// Embed texts or images with the frozen encoder
    Embed(embed::Embed),
    /// Decode embeddings (.npy, .npz) or images to images
    Decode(decode::Decode),
    /// Search a gallery with the frozen embedding of a query
    Search(search::Search),
    /// Build a gallery index from an image folder or a dataset
    Index(index::Index),
    /// Train an adapter, or fit a bridge, on image-text pairs
    Train(train::Train),
    /// Train and score every method on cached embeddings: recall, calibration, risk, likelihood
    Evaluate(evaluate::Evaluate),
    /// Compare strategies that choose which images to label
    Active(active::Active),
    /// Write the next images to label, or take the answers back
    Annotate(annotate::Annotate),
    /// Rank models for new images or texts by how uncertain they are about them
    Select(select::Select),
    /// Download models from the hub, list those that are here, look into them
    Models(models::Models),
    /// Check this machine and the bundle
    Doctor(doctor::Doctor),
    /// Offer this machine's device to Haze on other machines (--device remote:HOST)
    Serve(serve::Serve),
    /// Measure every stage, or the window (bench ui)
    Bench(bench::Bench),
    /// Repeat the result of a sheet and compare
    Replay(replay::Replay),
    /// Run golden cases and compare with their expected outputs
    Verify(verify::Verify),
}

/// What every command needs to do its work.
pub struct Context {
    pub options: GlobalOptions,
    pub interrupt: Interrupt,
}

impl Context {
    /// Opens the device the user asked for.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn device(&self) -> Result<ComputeDevice, SessionError> {
        Ok(ComputeDevice::open(&self.options.device)?)
    }

    /// Finds the assets folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn assets(&self) -> Result<Assets, SessionError> {
        Assets::find(self.options.assets.as_deref())
    }

    /// Prints a result on stdout: JSON when asked for, else the text.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn print(&self, json: &serde_json::Value, text: impl AsRef<str>) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let written = if self.options.json {
            writeln!(out, "{json}")
        } else {
            out.write_all(text.as_ref().as_bytes())
        };
        match written.and_then(|()| out.flush()) {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    keep_mesa_quiet();
    let cli = Cli::parse();
    let json = cli.global.json;
    // A panic becomes an error with an exit code; where it happened is for the log.
    std::panic::set_hook(Box::new(|panic| tracing::info!("{panic}")));
    match crate::session::guarded(|| Ok(run(cli))).unwrap_or_else(|panic| Err(panic.into())) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let exit = exit::of(&error);
            let message = if exit == Exit::Interrupted {
                "interrupted; nothing was written".to_owned()
            } else {
                format!("{error:#}")
            };
            if json {
                println!("{}", serde_json::json!({ "error": message, "exit_code": exit as u8 }));
            }
            eprintln!("{}: {message}", if exit == Exit::Interrupted { "haze" } else { "error" });
            exit.into()
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    log_to_stderr(cli.global.verbose);
    if let Some(threads) = cli.global.threads {
        rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global()?;
    }
    let Some(command) = cli.command else {
        // Ctrl-C ends the window at once: nothing listens for it here.
        return window::open(&cli.global, None, None).map_err(window::with_alternative);
    };
    if let Command::Demo(demo) = &command
        && demo.wants_window(&cli.global)
    {
        match window::open(&cli.global, Some(demo::QUERY), demo.screenshot()) {
            Err(error) if window::is_unavailable(&error) => {
                eprintln!("haze: {error}; going on without a window");
            }
            done => return done,
        }
    }
    if let Command::Serve(serve) = &command {
        // A server runs until it is asked to end: burn listens for that.
        return serve.run(&Context { options: cli.global, interrupt: Interrupt::default() });
    }
    let context = Context { options: cli.global, interrupt: Interrupt::listen()? };
    match command {
        Command::Serve(command) => command.run(&context),
        Command::Demo(command) => command.run(&context),
        Command::Sample(command) => command.run(&context),
        Command::Study(command) => command.run(&context),
        Command::Embed(command) => command.run(&context),
        Command::Decode(command) => command.run(&context),
        Command::Search(command) => command.run(&context),
        Command::Index(command) => command.run(&context),
        Command::Train(command) => command.run(&context),
        Command::Evaluate(command) => command.run(&context),
        Command::Active(command) => command.run(&context),
        Command::Annotate(command) => command.run(&context),
        Command::Select(command) => command.run(&context),
        Command::Models(command) => command.run(&context),
        Command::Doctor(command) => command.run(&context),
        Command::Bench(command) => command.run(&context),
        Command::Replay(command) => command.run(&context),
        Command::Verify(command) => command.run(&context),
    }
}

/// On a machine without a desktop session, Mesa's device selection layer prints an error about
/// Wayland whenever graphics adapters are listed. Haze chooses among them itself.
fn keep_mesa_quiet() {
    let is_set = |name| std::env::var_os(name).is_some();
    if cfg!(target_os = "linux") && !is_set("XDG_RUNTIME_DIR") && !is_set("NODEVICE_SELECT") {
        // SAFETY: the program has a single thread here, and nothing has read the environment yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Warnings always; `-v` shows what Haze does, `-vv` also what its libraries do. `RUST_LOG` wins.
fn log_to_stderr(verbose: u8) {
    // burn warns once per lost operation when a link drops, hf-hub calls every failed request an
    // error; Haze says once what came of it.
    let default = match verbose {
        0 => "warn,burn_remote=error,hf_hub=off",
        1 => "warn,burn_remote=error,hf_hub=off,haze=info",
        _ => "info,haze=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only when a subscriber is set already, as in tests.
    let _ = subscriber.without_time().try_init();
}

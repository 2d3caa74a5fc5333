//! `haze doctor`: what this machine has, and whether the bundle works on it.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueHint};
use serde::Serialize;
use serde_json::json;

use super::{Context, Exit, system, table};
use crate::decoder::DecodeOptions;
use crate::model::device::{ComputeDevice, DeviceError, all_adapters};
use crate::model::remote::address::RemoteAddress;
use crate::model::remote::client;
use crate::session::request::DEMO_BUNDLE;
use crate::session::{Assets, SessionError, cache};

/// Check this machine and the bundle
#[derive(Debug, Args)]
pub struct Doctor {
    /// Bundle to check [default: demo]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    bundle: Option<PathBuf>,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    found: String,
}

impl Doctor {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let mut checks = machine();
        let device = context.device();
        checks.push(check("device", &device, |device: &ComputeDevice| {
            format!("{} (--device {})", device.label, context.options.device)
        }));
        if let Some(server) = device.as_ref().ok().and_then(|device| device.remote.as_ref()) {
            checks.push(remote_check(server));
        }
        checks.push(cache_check());
        let assets = context.assets();
        checks
            .push(check("assets", &assets, |assets: &Assets| assets.root().display().to_string()));
        if let (Ok(device), Ok(assets)) = (device, assets) {
            checks.extend(self.bundle_checks(&assets, &device));
        }
        let failed = checks.iter().filter(|check| !check.ok).count();
        let mut text = String::new();
        for check in &checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            text += &format!("{mark}  {:<18} {}\n", check.what, check.found);
        }
        text += &match failed {
            0 => "\nall is well\n".to_owned(),
            1 => "\n1 problem\n".to_owned(),
            n => format!("\n{n} problems\n"),
        };
        context.print(&json!({ "checks": checks, "problems": failed }), text)?;
        Ok(if failed == 0 { Exit::Success } else { Exit::CheckFailed })
    }

    fn bundle_checks(&self, assets: &Assets, device: &ComputeDevice) -> Vec<Check> {
        let bundle = self.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE));
        let resolved = match assets.resolve(&bundle, "bundle") {
            Ok(path) => path,
            Err(error) => return vec![failed("bundle", &error)],
        };
        let encoder = crate::encoder::Encoder::load(&resolved.join("clip"), &device.device)
            .map_err(SessionError::from);
        let mut checks = vec![check("encoder", &encoder, |encoder| {
            format!(
                "CLIP, {} dimensions, texts up to {} tokens",
                encoder.dim(),
                encoder.max_tokens()
            )
        })];
        let adapters = crate::session::request::list_adapters(&bundle, assets);
        checks.push(check("adapters", &adapters, |adapters| {
            let names = adapters.iter().map(|(path, _)| {
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
            });
            names.collect::<Vec<_>>().join(", ")
        }));
        let decoder =
            crate::decoder::UnClipPipeline::load(&resolved.join("unclip"), &device.device)
                .map_err(SessionError::from);
        let plan = decoder.and_then(|decoder| {
            let plan = decoder.plan(1, &DecodeOptions::default())?;
            let kind = decoder.scheduler(None, plan.steps)?.kind();
            Ok((plan, kind))
        });
        checks.push(check("decoder", &plan, |(plan, scheduler)| {
            format!("unCLIP, {} x {} pixels, {scheduler} scheduler", plan.width, plan.height)
        }));
        checks
    }
}

fn machine() -> Vec<Check> {
    let threads = rayon::current_num_threads();
    let cpu = system::cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let vectors = system::vector_instructions().join(", ");
    let mut checks = vec![
        fine(
            "haze",
            format!(
                "{} on {} {}",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        ),
        fine("processor", format!("{cpu}, {threads} threads, {vectors}")),
    ];
    if let Some((total, available)) = system::memory() {
        let found = format!("{} of {} free", table::bytes(available), table::bytes(total));
        checks.push(fine("memory", found));
    }
    let adapters = all_adapters();
    if adapters.is_empty() {
        checks.push(fine("graphics", "no adapter; everything runs on the CPU".to_owned()));
    }
    for adapter in adapters {
        let units = if adapter.matrix_units { ", float16 matrix units" } else { "" };
        let found = format!(
            "{} by {} ({}), {}{units}",
            adapter.name, adapter.api, adapter.kind, adapter.driver
        );
        checks.push(fine("graphics", found));
    }
    checks
}

/// Versions of a server, and how long a word to it and back takes.
fn remote_check(server: &RemoteAddress) -> Check {
    let start = Instant::now();
    match client::ask(server) {
        Ok(hello) => fine(
            "remote",
            format!(
                "haze {}, burn {} on {server}; asked and answered in {:.1} ms",
                hello.haze,
                hello.burn,
                start.elapsed().as_secs_f64() * 1e3
            ),
        ),
        Err(error) => failed("remote", &DeviceError::from(error).into()),
    }
}

fn cache_check() -> Check {
    match cache::folder() {
        Ok(folder) => fine("cache", folder.display().to_string()),
        Err(error) => failed("cache", &error),
    }
}

fn fine(what: &'static str, found: String) -> Check {
    Check { what, ok: true, found }
}

fn failed(what: &'static str, error: &SessionError) -> Check {
    Check { what, ok: false, found: error.to_string() }
}

fn check<T>(
    what: &'static str,
    result: &Result<T, SessionError>,
    describe: impl Fn(&T) -> String,
) -> Check {
    match result {
        Ok(value) => fine(what, describe(value)),
        Err(error) => failed(what, error),
    }
}

//! `haze serve`: this machine's device for Haze on other machines.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::{Context, Exit, table};
use crate::model::device::DeviceError;
use crate::model::remote::RemoteError;
use crate::model::remote::address::RemoteAddress;
use crate::model::remote::hello::{BURN, HAZE};
use crate::model::remote::server::{Server, ServerEvent};
use crate::model::remote::token::Token;
use crate::session::SessionError;

/// Offer this machine's device to Haze on other machines
///
/// On the other machine, `--device remote:HOST` (and Device in the window's settings) computes here.
/// Models and files stay there; weights and activations travel. Both need the same version of Haze
/// and the same token. The first start makes a token, stores it and shows it once.
///
/// What travels is not encrypted. Haze listens on this machine alone unless told otherwise; from
/// elsewhere, ssh -L 7420:localhost:7420 HOST and --device remote:localhost is the safe way.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen, HOST:PORT; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7420", value_parser = parse)]
    listen: RemoteAddress,
    /// File with the token, made if there is none [default: HAZE_TOKEN, else HAZE_TOKEN_FILE, else
    /// remote_token in the configuration folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
}

fn parse(text: &str) -> Result<RemoteAddress, RemoteError> {
    RemoteAddress::parse(text)
}

impl Serve {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let device = context.device()?;
        let found = Token::find_or_make(self.token_file.as_deref()).map_err(remote)?;
        let server = Server::bind(&self.listen, &device, found.token.clone()).map_err(remote)?;
        let address = server.address().map_err(remote)?;
        let file = found.file.as_ref();
        let mut text = format!("haze {HAZE} serves {} on {address}\n", device.label);
        if let Some(file) = file {
            text += &format!("  token in {}\n", file.display());
        }
        // Shown once; later it is in the file alone.
        let shown = found.is_new.then(|| found.token.reveal());
        if let Some(token) = shown {
            text += &format!("  new token: {token}\n");
        }
        text += &format!("  on the other machine: --device remote:HOST:{}\n", address.port());
        let json = json!({
            "address": address.to_string(),
            "port": address.port(),
            "device": device.label,
            "haze": HAZE,
            "burn": BURN,
            "token_file": file,
            "new_token": shown,
        });
        context.print(&json, text)?;
        if !address.ip().is_loopback() {
            eprintln!(
                "haze: warning: {address} can be reached from the network, and nothing that \
                 travels is encrypted; an SSH tunnel to 127.0.0.1 is safer"
            );
        }
        let quiet = context.options.quiet;
        let report = move |event| {
            if !quiet {
                eprintln!("haze: {}", words(event));
            }
        };
        server.serve(report).map_err(remote)?;
        Ok(Exit::Success)
    }
}

fn words(event: ServerEvent) -> String {
    match event {
        ServerEvent::Joined { client } => format!("{client} joined"),
        ServerEvent::Left { client, received, sent } => {
            format!("{client} left; {} came, {} went", table::bytes(received), table::bytes(sent))
        }
        ServerEvent::WrongToken => "a client was refused: its token is wrong".to_owned(),
    }
}

fn remote(error: RemoteError) -> SessionError {
    DeviceError::from(error).into()
}

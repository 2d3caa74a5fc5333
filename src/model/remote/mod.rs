//! The device of another machine: `haze serve` there, `--device remote:HOST` here.
//!
//! Tensors and their operations go over the network by burn's remote device; models, files,
//! random numbers and everything else stay with the client. In goes an address and a token, out
//! comes a [`burn::tensor::Device`] that is used like any other.
//!
//! # What is spoken
//! One TCP port. A client first asks for `GET /haze/hello` and learns the versions, the device
//! and a fresh ticket ([`hello`]); then it opens burn's WebSocket on the same port and proves with
//! the ticket that it knows the token. The token itself never travels, and a proof works once.
//!
//! # Why WebSocket and not Iroh
//! burn offers both. Iroh encrypts, but it speaks QUIC over UDP between keys: `ssh -L` cannot carry
//! it, the networks of many clusters drop it, and a user must know the server's key beside its
//! name. A WebSocket is one TCP connection to a host and a port, so it works on the loopback, in a
//! laboratory and through an SSH tunnel. It is clear text, which is why the server listens on the
//! loopback unless told otherwise, and warns when it is.

pub mod address;
pub mod client;
pub mod hello;
pub mod server;
pub mod token;

use std::path::PathBuf;

use crate::files::FileError;
use address::RemoteAddress;

/// Why a remote device cannot be used, or cannot be served. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(
        "{found:?} is no address of a server: {reason}; expected HOST, HOST:PORT or [IPv6]:PORT"
    )]
    Address { found: String, reason: &'static str },
    #[error(
        "no token for the remote device: HAZE_TOKEN is not set and {} does not exist; copy that \
         file from the machine that runs haze serve, or set HAZE_TOKEN to the token it printed",
        path.display()
    )]
    NoToken { path: PathBuf },
    #[error("{origin}: not usable as a token: {reason}")]
    Token { origin: String, reason: String },
    #[error("this system has no place for a token; set HAZE_TOKEN, or HAZE_CONFIG to a folder")]
    NoPlace,
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "the name {host:?} cannot be resolved: {reason}; check the name, or give the IP address"
    )]
    Name { host: String, reason: String },
    #[error(
        "nobody listens on {0}; start haze serve there, or check host and port (through an SSH \
         tunnel: that the tunnel is open)"
    )]
    NobodyListens(RemoteAddress),
    #[error(
        "no answer from {address}: {reason}; check the network between here and there, and that \
         haze serve listens on an address that can be reached (--listen)"
    )]
    NoAnswer { address: RemoteAddress, reason: String },
    #[error("what listens on {address} is no haze serve: {reason}; check host and port")]
    NotHaze { address: RemoteAddress, reason: String },
    #[error(
        "{address} runs {what} {there}, this is {what} {here}; install the same version of Haze \
         on both machines"
    )]
    Version { address: RemoteAddress, what: &'static str, there: String, here: String },
    #[error(
        "{0} refused the token; set HAZE_TOKEN to the token that haze serve uses there, or copy \
         its token file"
    )]
    WrongToken(RemoteAddress),
    #[error("{address} answered, but no session came about: {reason}; start haze serve anew")]
    Session { address: RemoteAddress, reason: String },
    #[error(
        "cannot listen on {address}: {reason}; choose another address or port by --listen, port 0 \
         lets the system choose"
    )]
    Listen { address: RemoteAddress, reason: String },
    #[error("a remote device cannot be served on; name a device of this machine by --device")]
    ServesRemote,
    #[error("the server ended: {reason}")]
    Serve { reason: String },
}

//! The first words between a client and a server: versions, the device, and a ticket.
//!
//! A request is the head of an HTTP GET, an answer is a JSON object in an HTTP response, so that
//! `curl http://HOST:7420/haze/hello` shows what a server says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::token::Ticket;
use crate::model::device::ComputeDevice;

/// What a hello begins with on the wire.
pub const HELLO: &[u8] = b"GET /haze/hello HTTP/1.1\r\n";
/// What burn's session begins with on the wire.
pub const SESSION: &[u8] = b"GET /session HTTP/1.1\r\n";
/// Version of what this module says.
pub const PROTOCOL: u32 = 1;
/// Haze's own version.
pub const HAZE: &str = env!("CARGO_PKG_VERSION");
/// burn's version, as in Cargo.toml: other releases may give operations another form.
pub const BURN: &str = "0.22.1";
/// No head of a request or answer is longer.
const HEAD_LIMIT: usize = 8 << 10;
/// No answer is longer.
const ANSWER_LIMIT: u64 = 64 << 10;
/// Words take no longer than this.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// Version of Haze.
    pub haze: String,
    /// Version of burn.
    pub burn: String,
    /// For instance "NVIDIA H100 (vulkan)".
    pub device: String,
    pub is_gpu: bool,
    /// As [`ComputeDevice::matrix_units`].
    pub matrix_units: bool,
    /// Good for one session.
    pub ticket: Ticket,
}

impl Hello {
    /// What a server of this version says.
    pub fn new(device: &ComputeDevice, ticket: Ticket) -> Self {
        let ComputeDevice { label, is_gpu, matrix_units, .. } = device;
        Self {
            protocol: PROTOCOL,
            haze: HAZE.to_owned(),
            burn: BURN.to_owned(),
            device: label.clone(),
            is_gpu: *is_gpu,
            matrix_units: *matrix_units,
            ticket,
        }
    }

    /// The first version that differs from ours: of what, theirs, ours.
    pub fn version_mismatch(&self) -> Option<(&'static str, String, String)> {
        let versions = [
            ("Haze", self.haze.clone(), HAZE.to_owned()),
            ("burn", self.burn.clone(), BURN.to_owned()),
            ("the remote protocol", self.protocol.to_string(), PROTOCOL.to_string()),
        ];
        versions.into_iter().find(|(_, there, here)| there != here)
    }

    /// Asks for a hello on a fresh connection.
    ///
    /// # Errors
    /// When the connection breaks or is silent for long, and of kind `InvalidData` when the
    /// answer is none of a server's.
    pub fn ask(stream: &mut TcpStream, host: &str) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(HELLO)?;
        write!(stream, "Host: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer)?;
        let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(invalid("it does not answer a hello"));
        }
        let end = b"\r\n\r\n";
        let head = answer.windows(end.len()).position(|window| window == end);
        let head = head.ok_or_else(|| invalid("its answer has no end of the head"))?;
        serde_json::from_slice(&answer[head + end.len()..])
            .map_err(|error| invalid(&format!("its answer cannot be read: {error}")))
    }

    /// Reads the rest of a request and answers it.
    ///
    /// # Errors
    /// When the connection breaks or is silent for long, or the request is too long.
    pub fn answer(&self, stream: &mut TcpStream) -> io::Result<()> {
        read_head(stream)?;
        let json = serde_json::to_vec(self)?;
        write_response(stream, "200 OK", &json)
    }
}

/// Turns away what is neither a hello nor a session.
///
/// # Errors
/// When the connection breaks.
pub fn turn_away(stream: &mut TcpStream, status: &str) -> io::Result<()> {
    let json = serde_json::json!({ "error": status, "server": format!("haze {HAZE}") });
    write_response(stream, status, json.to_string().as_bytes())
}

/// Reads a little of what is left, for at most a few seconds: a connection that is closed with
/// unread bytes in it is cut, and the answer may be lost.
///
/// # Errors
/// When the connection breaks.
pub fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut chunk = [0; HEAD_LIMIT];
    for _ in 0..4 {
        if stream.read(&mut chunk)? == 0 {
            break;
        }
    }
    Ok(())
}

fn write_response(stream: &mut TcpStream, status: &str, json: &[u8]) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        json.len()
    );
    stream.write_all(&[head.as_bytes(), json].concat())
}

fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 512];
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..read]);
        if head.len() > HEAD_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_that_of_the_manifest() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")), "{BURN}");
    }

    #[test]
    fn any_version_that_differs_is_told_with_both_sides() {
        let hello = Hello::new(&ComputeDevice::cpu(), [0; 32]);
        assert_eq!(hello.version_mismatch(), None);
        let older = Hello { haze: "0.0.9".to_owned(), ..hello.clone() };
        let expected = ("Haze", "0.0.9".to_owned(), HAZE.to_owned());
        assert_eq!(older.version_mismatch(), Some(expected));
        let other = Hello { burn: "0.23.0".to_owned(), ..hello.clone() };
        assert_eq!(other.version_mismatch().unwrap().0, "burn");
        let other = Hello { protocol: PROTOCOL + 1, ..hello };
        assert_eq!(other.version_mismatch().unwrap().0, "the remote protocol");
    }
}

//! Opening the device of a server.

use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use burn::remote::{ConnectError, RemoteHost};
use burn::tensor::Device;

use super::RemoteError;
use super::address::RemoteAddress;
use super::hello::Hello;
use super::token::Token;

/// How long one address of a host may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An open session on a server.
#[derive(Debug)]
pub struct RemoteDevice {
    pub device: Device,
    /// What the server said about itself.
    pub hello: Hello,
}

/// Opens a session. Every call opens a new one: a session whose link dropped stays broken, and the
/// next call gets a device of its own.
///
/// # Errors
/// When nobody is there, versions differ, or the token is wrong; each by a variant of its own.
pub fn connect(address: &RemoteAddress, token: &Token) -> Result<RemoteDevice, RemoteError> {
    if address.port == 0 {
        let found = address.to_string();
        return Err(RemoteError::Address { found, reason: "the port is 0" });
    }
    let hello = ask(address)?;
    if let Some((what, there, here)) = hello.version_mismatch() {
        return Err(RemoteError::Version { address: address.clone(), what, there, here });
    }
    let proof = token.proof(&hello.ticket);
    // burn keeps one session per address and credential; a ticket is never the same twice.
    let host = RemoteHost::websocket(&format!("ws://{address}"))
        .with_credential(proof.as_bytes().as_slice());
    let session = |reason: String| RemoteError::Session { address: address.clone(), reason };
    let device = catch_unwind(AssertUnwindSafe(|| Device::remote_options(&host).init()))
        .map_err(|panic| {
            let text = crate::panics::message(panic.as_ref());
            session(text.unwrap_or_else(|| "an internal error".to_owned()))
        })?
        .map_err(|error| match error {
            ConnectError::Unauthorized => RemoteError::WrongToken(address.clone()),
            ConnectError::IncompatibleProtocol { client_version, server_version } => {
                RemoteError::Version {
                    address: address.clone(),
                    what: "burn's protocol",
                    there: server_version.to_string(),
                    here: client_version.to_string(),
                }
            }
            error => session(error.to_string()),
        })?;
    Ok(RemoteDevice { device, hello })
}

/// What the server says about itself.
///
/// # Errors
/// When nobody is there, or somebody else.
pub fn ask(address: &RemoteAddress) -> Result<Hello, RemoteError> {
    let mut stream = dial(address)?;
    Hello::ask(&mut stream, &address.to_string()).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => {
            RemoteError::NotHaze { address: address.clone(), reason: error.to_string() }
        }
        _ => RemoteError::NoAnswer { address: address.clone(), reason: words(&error) },
    })
}

/// A connection to the first address that answers.
fn dial(address: &RemoteAddress) -> Result<TcpStream, RemoteError> {
    let mut last = None;
    for number in address.resolve()? {
        match TcpStream::connect_timeout(&number, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            RemoteError::NobodyListens(address.clone())
        }
        error => RemoteError::NoAnswer {
            address: address.clone(),
            reason: error.map_or_else(String::new, |error| words(&error)),
        },
    })
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "it took too long".to_owned(),
        io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::model::device::ComputeDevice;

    /// A server on the loopback that sends `answer` to everyone.
    fn impostor(answer: Vec<u8>) -> RemoteAddress {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 1024];
                let _ = io::Read::read(&mut stream, &mut request);
                let _ = stream.write_all(&answer);
            }
        });
        address
    }

    fn token() -> Token {
        Token::random().unwrap()
    }

    #[test]
    fn a_closed_port_says_that_nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: RemoteAddress = listener.local_addr().unwrap().into();
        drop(listener);
        let error = connect(&address, &token()).unwrap_err();
        assert!(matches!(&error, RemoteError::NobodyListens(_)), "{error}");
        assert!(error.to_string().contains("haze serve"), "{error}");
    }

    #[test]
    fn another_program_on_the_port_is_told_from_a_server() {
        for answer in ["", "SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 200 OK\r\n\r\n{\"a\": 1}"] {
            let error = connect(&impostor(answer.into()), &token()).unwrap_err();
            assert!(matches!(&error, RemoteError::NotHaze { .. }), "{answer}: {error}");
        }
    }

    #[test]
    fn a_server_of_another_version_is_refused_before_any_session() {
        let hello =
            Hello { haze: "0.0.1".to_owned(), ..Hello::new(&ComputeDevice::cpu(), [7; 32]) };
        let json = serde_json::to_string(&hello).unwrap();
        let address = impostor(format!("HTTP/1.1 200 OK\r\n\r\n{json}").into());
        let error = connect(&address, &token()).unwrap_err().to_string();
        assert!(
            error.contains("Haze 0.0.1") && error.contains(super::super::hello::HAZE),
            "{error}"
        );
    }
}

//! The secret that a server and its clients share.
//!
//! Both sides look in the same places: `HAZE_TOKEN`, else the file that `HAZE_TOKEN_FILE` names,
//! else `remote_token` in the configuration folder. A server makes that file when there is none.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

use super::RemoteError;
use crate::files::{CONFIG, FileError, create_folder, read_bounded};

const VARIABLE: &str = "HAZE_TOKEN";
const FILE_VARIABLE: &str = "HAZE_TOKEN_FILE";
const FILE: &str = "remote_token";
/// Bytes of a token that Haze makes.
const RANDOM_BYTES: usize = 32;
/// Fewer characters could be guessed.
const SHORTEST: usize = 16;
const LONGEST: usize = 1024;

/// Bytes of a ticket, and of everything else that must not be guessed.
pub type Ticket = [u8; RANDOM_BYTES];

/// A shared secret. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A token and where a server found it.
#[derive(Debug)]
pub struct ServerToken {
    pub token: Token,
    /// The file it is in; `None` when it came from the environment.
    pub file: Option<PathBuf>,
    /// Whether it was made just now.
    pub is_new: bool,
}

impl Token {
    /// A token from text; white space around it does not count.
    ///
    /// # Errors
    /// When it is too short to be a secret, too long, or holds anything but printable ASCII.
    pub fn new(text: &str, origin: &str) -> Result<Self, RemoteError> {
        let text = text.trim();
        let error = |reason| RemoteError::Token { origin: origin.to_owned(), reason };
        if !(SHORTEST..=LONGEST).contains(&text.len()) {
            return Err(error(format!(
                "it has {} characters, expected {SHORTEST} to {LONGEST}",
                text.len()
            )));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error("it holds other characters than printable ASCII".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// A new one of 256 random bits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Self, RemoteError> {
        Ok(Self(hex(&random_bytes()?)))
    }

    /// What shows that the sender knows the token and was given `ticket`: BLAKE3, keyed by the
    /// token's hash, of the ticket.
    pub fn proof(&self, ticket: &Ticket) -> blake3::Hash {
        blake3::keyed_hash(blake3::hash(self.0.as_bytes()).as_bytes(), ticket)
    }

    /// The secret itself, to be shown once to who started the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The client's token.
    ///
    /// # Errors
    /// When there is none, or it is not usable.
    pub fn find() -> Result<Self, RemoteError> {
        if let Some(token) = from_environment()? {
            return Ok(token);
        }
        let path = place(None)?;
        if !path.exists() {
            return Err(RemoteError::NoToken { path });
        }
        read(&path)
    }

    /// The server's token, made and stored when there is none. `named` is a file that takes the
    /// place of the usual ones.
    ///
    /// # Errors
    /// When it is not usable, or cannot be stored.
    pub fn find_or_make(named: Option<&Path>) -> Result<ServerToken, RemoteError> {
        if named.is_none()
            && let Some(token) = from_environment()?
        {
            return Ok(ServerToken { token, file: None, is_new: false });
        }
        let path = place(named)?;
        let is_new = !path.exists();
        let token = if is_new { store(&path)? } else { read(&path)? };
        Ok(ServerToken { token, file: Some(path), is_new })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Bytes that nobody can guess.
///
/// # Errors
/// When the system has none.
pub fn random_bytes() -> Result<Ticket, RemoteError> {
    let mut bytes = Ticket::default();
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|e| RemoteError::Serve { reason: format!("the system has no randomness: {e}") })?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_environment() -> Result<Option<Token>, RemoteError> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => Ok(Some(Token::new(&text, VARIABLE)?)),
        _ => Ok(None),
    }
}

fn place(named: Option<&Path>) -> Result<PathBuf, RemoteError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    match std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty()) {
        Some(path) => Ok(path.into()),
        None => Ok(CONFIG.folder().ok_or(RemoteError::NoPlace)?.join(FILE)),
    }
}

fn read(path: &Path) -> Result<Token, RemoteError> {
    // A line end and some space around the token are welcome.
    let bytes = read_bounded(path, LONGEST as u64 + 64, "a token")?;
    let origin = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| RemoteError::Token {
        origin: origin.clone(),
        reason: "it is no text".to_owned(),
    })?;
    Token::new(&text, &origin)
}

/// Makes a token and stores it where only its owner can read it.
fn store(path: &Path) -> Result<Token, RemoteError> {
    let token = Token::random()?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    create_folder(folder)?;
    // Temporary files are private from the start (0600), and stay so.
    let mut file = tempfile::Builder::new()
        .prefix(".haze-")
        .suffix(".partial")
        .tempfile_in(folder)
        .map_err(FileError::write(path))?;
    writeln!(file, "{}", token.0).map_err(FileError::write(path))?;
    file.as_file().sync_all().map_err(FileError::write(path))?;
    // Another server may have been quicker: its token stays, and this start fails.
    file.persist_noclobber(path).map_err(|e| FileError::write(path)(e.error))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_makes_a_token_once_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/token");
        let made = Token::find_or_make(Some(&path)).unwrap();
        assert!(made.is_new);
        assert_eq!(made.token.reveal().len(), 2 * RANDOM_BYTES);
        assert_ne!(made.token, Token::random().unwrap());
        let again = Token::find_or_make(Some(&path)).unwrap();
        assert!(!again.is_new);
        assert_eq!(again.token, made.token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_proof_depends_on_the_token_and_on_the_ticket() {
        let token = Token::new("sixteen letters!", "test").unwrap_err();
        assert!(token.to_string().contains("printable ASCII"), "{token}");
        let token = Token::new(" sixteen-letters!\n", "test").unwrap();
        let other = Token::new("sixteen-letters?", "test").unwrap();
        assert_eq!(token.proof(&[1; 32]), token.proof(&[1; 32]));
        assert_ne!(token.proof(&[1; 32]), token.proof(&[2; 32]));
        assert_ne!(token.proof(&[1; 32]), other.proof(&[1; 32]));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_token_that_could_be_guessed_or_is_no_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, reason) in [
            (&b"secret"[..], "6 characters"),
            (b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe", "no text"),
            (&[b'a'; 5000], "5000 bytes"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = Token::find_or_make(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}

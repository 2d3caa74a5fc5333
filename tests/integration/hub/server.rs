//! A hub on 127.0.0.1, with a content network on another port, that can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Digest;

/// The commit of every branch.
pub const COMMIT: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
/// The token that may see the gated model.
pub const TOKEN: &str = "hf_allowedAllowedAllowed";

/// A file of the repository.
#[derive(Clone)]
pub struct HubFile {
    pub content: Vec<u8>,
    /// Kept in large file storage: served by the content network.
    pub large: bool,
}

/// What happens to a request instead of, or while, it is answered.
#[derive(Clone)]
pub enum Fault {
    /// This status, with these headers.
    Status(u16, &'static [(&'static str, &'static str)]),
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// After so many bytes of the body nothing comes any more.
    Stall(usize),
    /// One byte of the body is another.
    Flip,
    /// The whole file, whatever range was asked for.
    NoRange,
    /// Another body.
    Body(String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// True when it went to the content network.
    pub content_network: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A fault, the method and part of the path it is for, and how many requests it meets.
struct Planned {
    method: &'static str,
    path: &'static str,
    fault: Fault,
    times: usize,
}

struct Shared {
    files: BTreeMap<String, HubFile>,
    gated: bool,
    content_network: String,
    hub: String,
    faults: Mutex<Vec<Planned>>,
    requests: Mutex<Vec<Request>>,
}

/// The running hub; it has one model, `acme/model`.
pub struct Hub {
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl Hub {
    pub fn new(files: BTreeMap<String, HubFile>) -> Self {
        Self::start(files, false)
    }

    /// Gives its files only for [`TOKEN`].
    pub fn gated(files: BTreeMap<String, HubFile>) -> Self {
        Self::start(files, true)
    }

    fn start(files: BTreeMap<String, HubFile>, gated: bool) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let address =
            |l: &TcpListener| format!("http://127.0.0.1:{}", l.local_addr().unwrap().port());
        let (hub, network) = (listen(), listen());
        let shared = Arc::new(Shared {
            files,
            gated,
            content_network: address(&network),
            hub: address(&hub),
            faults: Mutex::default(),
            requests: Mutex::default(),
        });
        let endpoint = shared.hub.clone();
        for (listener, content_network) in [(hub, false), (network, true)] {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = Arc::clone(&shared);
                    // A client that hangs up is part of the tests.
                    std::thread::spawn(move || shared.serve(stream, content_network).ok());
                }
            });
        }
        Self { endpoint, shared }
    }

    /// The next `times` requests of that kind meet a fault.
    pub fn fail(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        self.shared.faults.lock().unwrap().push(Planned { method, path, fault, times });
    }

    /// Requests so far, and none from now on.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }

    /// Number of requests so far.
    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }
}

/// SHA-256 in hex.
pub fn sha256(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-1 of a Git blob in hex.
pub fn git_sha1(content: &[u8]) -> String {
    let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
    sha1::Sha1::digest(blob).iter().map(|b| format!("{b:02x}")).collect()
}

/// An answer before faults.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { status, headers, body: body.into() }
    }

    fn json(body: &Value) -> Self {
        Self::new(200, &[("content-type", "application/json")], body.to_string())
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": message }).to_string();
        Self::new(status, &[("x-error-code", code), ("x-error-message", message)], body)
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, content_network: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let request = Request { method, path, headers, content_network };
        self.requests.lock().unwrap().push(request.clone());
        let fault = self.fault(&request);
        let no_range = matches!(fault, Some(Fault::NoRange));
        let mut answer = match &fault {
            Some(Fault::Status(status, headers)) => Answer::new(*status, headers, "{}"),
            Some(Fault::Body(body)) => Answer::new(200, &[], body.as_str()),
            _ if content_network => self.content(&request, no_range),
            _ => self.answer(&request),
        };
        if matches!(fault, Some(Fault::Flip)) && !answer.body.is_empty() {
            let middle = answer.body.len() / 2;
            answer.body[middle] ^= 1;
        }
        self.send(stream, &request, answer, fault)
    }

    fn send(
        &self,
        mut stream: TcpStream,
        request: &Request,
        answer: Answer,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Answer\r\nconnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", answer.body.len());
        stream.write_all(head.as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(Fault::Cut(bytes)) => stream.write_all(&answer.body[..bytes]),
            Some(Fault::Stall(bytes)) => {
                stream.write_all(&answer.body[..bytes])?;
                stream.flush()?;
                std::thread::sleep(Duration::from_secs(60));
                Ok(())
            }
            _ => stream.write_all(&answer.body),
        }
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let planned = faults.iter_mut().find(|planned| {
            planned.times > 0
                && planned.method == request.method
                && request.path.contains(planned.path)
        })?;
        planned.times -= 1;
        Some(planned.fault.clone())
    }

    /// `GET /blob/<sha256>` with ranges, as a content network answers.
    fn content(&self, request: &Request, no_range: bool) -> Answer {
        let name = request.path.split('?').next().unwrap().trim_start_matches("/blob/");
        let file = self.files.values().find(|file| sha256(&file.content) == name).unwrap();
        // Its own idea of an etag, which is no SHA-256.
        let etag = [("etag", "\"0123456789abcdef0123456789abcdef-3\"")];
        match request.header("range").filter(|_| !no_range) {
            None => Answer::new(200, &etag, file.content.clone()),
            Some(range) => {
                let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                let start: usize = start.parse().unwrap();
                let end: usize = end.parse().map_or(file.content.len(), |end: usize| end + 1);
                let shown = format!("bytes {start}-{}/{}", end - 1, file.content.len());
                let headers = [etag[0], ("content-range", shown.as_str())];
                Answer::new(206, &headers, &file.content[start..end])
            }
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            // What the real hub says of a model that does not exist.
            ["api", "models", owner, name, ..] if (*owner, *name) != ("acme", "model") => {
                Answer::error(401, "RepoNotFound", "Invalid username or password.")
            }
            ["api", "models", _, _, _, revision] if !is_known(revision) => {
                Answer::error(404, "RevisionNotFound", "Invalid rev id")
            }
            ["api", "models", _, _, "revision", _] => Answer::json(&self.info()),
            ["api", "models", _, _, "tree", _] => self.tree(query),
            ["acme", "model", "resolve", revision, file @ ..] if is_known(revision) => {
                self.resolve(request, &file.join("/"))
            }
            _ => Answer::error(404, "EntryNotFound", "Entry not found"),
        }
    }

    fn info(&self) -> Value {
        let gated = if self.gated { json!("auto") } else { json!(false) };
        json!({
            "id": "acme/model", "sha": COMMIT, "gated": gated, "private": false,
            "cardData": {
                "license": "openrail++", "license_link": "https://example.org/licence",
                "extra_gated_prompt": "Use it for research alone.",
            },
            "siblings": [],
        })
    }

    /// Two pages, as for a large repository.
    fn tree(&self, query: &str) -> Answer {
        let entries: Vec<Value> = self
            .files
            .iter()
            .map(|(path, file)| {
                let (oid, size) = (git_sha1(&file.content), file.content.len());
                if file.large {
                    let lfs =
                        json!({ "oid": sha256(&file.content), "size": size, "pointerSize": 134 });
                    // The oid of the entry is that of the pointer.
                    let oid = git_sha1(b"pointer");
                    json!({ "type": "file", "oid": oid, "size": size, "path": path, "lfs": lfs })
                } else {
                    json!({ "type": "file", "oid": oid, "size": size, "path": path })
                }
            })
            .chain([json!({ "type": "directory", "oid": git_sha1(b""), "size": 0, "path": "x" })])
            .collect();
        let (first, second) = entries.split_at(entries.len() / 2);
        if query.contains("cursor=2") {
            return Answer::json(&json!(second));
        }
        let next =
            format!("<{}/api/models/acme/model/tree/{COMMIT}?cursor=2>; rel=\"next\"", self.hub);
        let mut answer = Answer::json(&json!(first));
        answer.headers.push(("link".to_owned(), next));
        answer
    }

    fn resolve(&self, request: &Request, path: &str) -> Answer {
        match request.header("authorization") {
            Some(token) if token == format!("Bearer {TOKEN}") => {}
            Some("Bearer hf_expired") => return Answer::new(401, &[], "{}"),
            _ if !self.gated => {}
            None => {
                return Answer::error(
                    401,
                    "GatedRepo",
                    "Access to model acme/model is restricted.",
                );
            }
            Some(_) => {
                return Answer::error(403, "GatedRepo", "You are not in the authorized list.");
            }
        }
        let Some(file) = self.files.get(path) else {
            return Answer::error(404, "EntryNotFound", "Entry not found");
        };
        let commit = ("x-repo-commit", COMMIT);
        if !file.large {
            let etag = format!("\"{}\"", git_sha1(&file.content));
            return Answer::new(200, &[commit, ("etag", &etag)], file.content.clone());
        }
        let sha256 = sha256(&file.content);
        let location = format!("{}/blob/{sha256}?Signature=secret", self.content_network);
        let headers = [
            commit,
            ("x-linked-etag", &format!("\"{sha256}\"")),
            ("x-linked-size", &file.content.len().to_string()),
            ("location", &location),
        ];
        Answer::new(302, &headers, "")
    }
}

fn is_known(revision: &str) -> bool {
    ["main", "v1", COMMIT].contains(&revision)
}

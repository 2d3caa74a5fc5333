//! Requests to the hub, made by `hf-hub` and repeated where that can help.
//!
//! `hf-hub` 1.0 repeats a request after fractions of a second whatever the hub asks for, and keeps
//! the SHA-256 of large files to itself. So its own repetition is switched off here: a request is
//! repeated after the pause that `Retry-After` names, or after one that doubles, and can be
//! cancelled meanwhile. The checksum is read from the header of the file's own address, as
//! `huggingface_hub` does.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hf_hub::repository::{HFRepository, ModelInfo, RepoTreeEntry, RepoTypeModel};
use hf_hub::{HFClient, HFError};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Response, Url, redirect};

use super::name::{is_commit, is_relative_path};
use super::selection::RepoFile;
use super::{HubError, HubName, HubPlace, PullEvent, Tell, tell_or_stop};

/// How often a request is repeated before it is given up.
const REPETITIONS: u32 = 5;
/// The first pause between two of them; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A hub that asks for more than this is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A connection that says nothing for this long is taken for lost.
const SILENCE: Duration = Duration::from_secs(60);
/// Time between two chances to cancel.
const TICK: Duration = Duration::from_millis(100);
/// No model repository has more files.
const LISTING_LIMIT: usize = 20_000;
/// Redirects on the hub itself: a renamed repository.
const REDIRECT_LIMIT: usize = 5;

/// A connection to the hub.
pub struct Connection {
    pub(super) place: HubPlace,
    endpoint: Url,
    runtime: tokio::runtime::Runtime,
    hub: HFClient,
    /// Follows no redirect: the header with the checksum is on the first answer.
    plain: reqwest::Client,
}

/// Takes the content of a file piece by piece, each with its offset; says how many bytes are there.
pub(super) type Take<'a> = dyn FnMut(u64, &[u8]) -> Result<u64, HubError> + 'a;

/// What is asked for, for errors.
pub(super) struct Subject<'a> {
    pub name: &'a HubName,
    /// The commit, or the branch before that is known.
    pub revision: &'a str,
    pub path: Option<&'a str>,
}

impl Connection {
    /// Prepares requests; makes none.
    ///
    /// # Errors
    /// When the endpoint is no address, or the system gives no sockets or certificates.
    pub fn new(place: HubPlace) -> Result<Self, HubError> {
        let is_web = |url: &Url| url.has_host() && matches!(url.scheme(), "http" | "https");
        let endpoint = Url::parse(&place.endpoint).ok().filter(is_web).ok_or_else(|| {
            let found = &place.endpoint;
            HubError::Client(format!(
                "HF_ENDPOINT is {found:?}, expected an address as https://host"
            ))
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| HubError::Client(error.to_string()))?;
        let client = |redirects| {
            // A compressed answer has no ranges.
            let identity = HeaderValue::from_static("identity");
            let headers = HeaderMap::from_iter([(reqwest::header::ACCEPT_ENCODING, identity)]);
            reqwest::Client::builder()
                .user_agent(concat!("haze/", env!("CARGO_PKG_VERSION"), "; hf-hub/1.0"))
                .default_headers(headers)
                .connect_timeout(Duration::from_secs(20))
                .redirect(redirects)
                .build()
                .map_err(|error| HubError::Client(causes(&error)))
        };
        // reqwest drops the token where a redirect leads to another host or port.
        let following = client(redirect::Policy::limited(10))?;
        let mut hub = HFClient::builder()
            .endpoint(place.endpoint.clone())
            .cache_dir(place.cache.folder())
            .client(following)
            .retry_max_attempts(0);
        if let Some(token) = place.token() {
            hub = hub.token(token);
        }
        let hub = hub.build().map_err(|error| HubError::Client(error.to_string()))?;
        Ok(Self { endpoint, runtime, hub, plain: client(redirect::Policy::none())?, place })
    }

    /// Runs to its end what makes requests.
    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn repo(&self, name: &HubName) -> HFRepository<RepoTypeModel> {
        self.hub.model(name.owner(), name.name())
    }

    /// The commit that the name's revision stands at, and what the hub says about the model.
    pub(super) async fn info(
        &self,
        name: &HubName,
        tell: &mut Tell<'_>,
    ) -> Result<(String, ModelInfo), HubError> {
        let subject = Subject { name, revision: name.revision(), path: None };
        let repo = self.repo(name);
        let info =
            self.repeat(&subject, tell, || repo.info().revision(name.revision()).send()).await?;
        let commit = info.sha.clone().unwrap_or_default().to_ascii_lowercase();
        if !is_commit(&commit) {
            let reason = format!("its commit is {commit:?}, expected 40 hexadecimal digits");
            return Err(self.malformed(name, reason));
        }
        Ok((commit, info))
    }

    /// All files of a commit.
    pub(super) async fn files(
        &self,
        name: &HubName,
        commit: &str,
        tell: &mut Tell<'_>,
    ) -> Result<Vec<RepoFile>, HubError> {
        let subject = Subject { name, revision: commit, path: None };
        let repo = &self.repo(name);
        let list = || async move {
            let entries = repo.list_tree().revision(commit).recursive(true);
            let mut entries = pin!(entries.limit(LISTING_LIMIT + 1).send()?);
            let mut files = Vec::new();
            while let Some(entry) = entries.next().await {
                if let RepoTreeEntry::File { oid, size, path, lfs, .. } = entry? {
                    files.push(RepoFile { path, bytes: size, oid, large: lfs.is_some() });
                }
            }
            Ok::<_, HFError>(files)
        };
        let files = self.repeat(&subject, tell, list).await?;
        if files.len() > LISTING_LIMIT {
            let reason = format!("it lists more than {LISTING_LIMIT} files");
            return Err(self.malformed(name, reason));
        }
        if let Some(file) = files.iter().find(|file| !is_relative_path(&file.path)) {
            let reason = format!("it lists a file {:?}, which leads elsewhere", file.path);
            return Err(self.malformed(name, reason));
        }
        Ok(files)
    }

    /// The checksum by which the hub names a file: `x-linked-etag`, else `etag`.
    pub(super) async fn checksum(
        &self,
        subject: &Subject<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<String, HubError> {
        let response = self.repeat(subject, tell, || self.head(subject)).await?;
        let header = |name| response.headers().get(name)?.to_str().ok();
        let etag = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
        Ok(etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase())
    }

    async fn head(&self, subject: &Subject<'_>) -> Result<Response, Failure> {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            let path = subject.path.unwrap_or_default().split('/');
            segments.pop_if_empty().extend([subject.name.owner(), subject.name.name(), "resolve"]);
            segments.push(subject.revision).extend(path);
        }
        for _ in 0..REDIRECT_LIMIT {
            let mut request = self.plain.head(url.clone());
            if let Some(token) = self.place.token() {
                request = request.bearer_auth(token);
            }
            let response = request.send().await.map_err(|error| Failure::network(&error))?;
            let status = response.status();
            let header = |name| response.headers().get(name)?.to_str().ok();
            if status.is_success() || header("x-linked-etag").is_some() {
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(Failure::Status {
                    status: status.as_u16(),
                    code: plain(header("x-error-code").unwrap_or_default()),
                    message: plain(header("x-error-message").unwrap_or_default()),
                    retry_after: header("retry-after").and_then(seconds),
                });
            }
            // The token goes with the request, so it must stay with the hub.
            let next = header("location").and_then(|to| url.join(to).ok());
            match next.filter(|next| next.origin() == self.endpoint.origin()) {
                Some(next) => url = next,
                None => break,
            }
        }
        Err(Failure::Answer("a file's address leads elsewhere and has no checksum".to_owned()))
    }

    /// Passes the content of a file from byte `start` of `bytes` on to `take`, as it arrives.
    /// `take` gets the offset of each piece: 0 anew when the server knows no ranges.
    ///
    /// The inner error is one after which the rest can be asked for.
    pub(super) async fn stream(
        &self,
        subject: &Subject<'_>,
        start: u64,
        bytes: u64,
        tell: &mut Tell<'_>,
        take: &mut Take<'_>,
    ) -> Result<Result<(), Failure>, HubError> {
        let repo = self.repo(subject.name);
        let request = repo
            .download_file_stream()
            .filename(subject.path.unwrap_or_default())
            .revision(subject.revision)
            .maybe_range((start > 0).then_some(start..bytes))
            .send();
        let (length, mut stream) = match self.attend(request, tell).await? {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Ok(Err(error.into())),
            Err(silence) => return Ok(Err(silence)),
        };
        let mut offset = if start > 0 && length == Some(bytes) { 0 } else { start };
        loop {
            match self.attend(stream.next(), tell).await? {
                Ok(Some(Ok(chunk))) => {
                    let done = take(offset, &chunk)?;
                    offset += chunk.len() as u64;
                    tell_or_stop(tell, PullEvent::Bytes { done, total: 0 })?;
                }
                Ok(Some(Err(error))) => return Ok(Err(Failure::from(error))),
                Ok(None) if offset < bytes => {
                    let reason = format!("the connection ended after {offset} of {bytes} bytes");
                    return Ok(Err(Failure::Network { host: None, reason }));
                }
                Ok(None) => return Ok(Ok(())),
                Err(silence) => return Ok(Err(silence)),
            }
        }
    }

    /// Waits for an answer, with chances to cancel. The inner error is a connection gone silent.
    async fn attend<F: Future>(
        &self,
        future: F,
        tell: &mut Tell<'_>,
    ) -> Result<Result<F::Output, Failure>, HubError> {
        let mut future = pin!(future);
        let start = Instant::now();
        loop {
            if let Ok(output) = tokio::time::timeout(TICK, future.as_mut()).await {
                return Ok(Ok(output));
            }
            tell_or_stop(tell, PullEvent::Tick)?;
            if start.elapsed() > SILENCE {
                let reason = format!("nothing arrived for {} s", SILENCE.as_secs());
                return Ok(Err(Failure::Network { host: None, reason }));
            }
        }
    }

    /// Makes a request until it is answered, fails for good, or was repeated often enough.
    async fn repeat<T, E: Into<Failure>, F: Future<Output = Result<T, E>>>(
        &self,
        subject: &Subject<'_>,
        tell: &mut Tell<'_>,
        request: impl Fn() -> F,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            let failure = match self.attend(request(), tell).await? {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error.into(),
                Err(silence) => silence,
            };
            self.pause(failure, failures, subject, tell).await?;
            failures += 1;
        }
    }

    /// Waits before a request is repeated.
    ///
    /// # Errors
    /// The failure itself, when repeating does not help or was tried often enough.
    pub(super) async fn pause(
        &self,
        failure: Failure,
        failures: u32,
        subject: &Subject<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), HubError> {
        let Some(pause) = failure.pause(failures) else {
            return Err(self.explain(failure, subject));
        };
        let why = failure.to_string();
        tracing::info!("{}: {why}; again in {pause:?}", subject.name);
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tell_or_stop(tell, PullEvent::Waiting { why: &why, pause: left })?;
            tokio::time::sleep(left.min(TICK)).await;
        }
    }

    pub(super) fn malformed(&self, name: &HubName, reason: String) -> HubError {
        let endpoint = self.place.endpoint.clone();
        HubError::Malformed { repo: name.repo(), endpoint, reason }
    }

    /// A failure in words that say what to do.
    fn explain(&self, failure: Failure, subject: &Subject<'_>) -> HubError {
        let (repo, endpoint) = (subject.name.repo(), self.place.endpoint.clone());
        let has_token = self.place.has_token();
        let (status, code, message, wait) = match failure {
            Failure::Status { status, code, message, retry_after } => {
                (status, code, message, retry_after)
            }
            Failure::Network { host, reason } => {
                let host = host.unwrap_or(endpoint);
                return HubError::Network { repo, host, reason };
            }
            Failure::Answer(reason) => return HubError::Malformed { repo, endpoint, reason },
        };
        let page = self.place.page(&repo);
        let revision = subject.revision.to_owned();
        match (status, code.as_str(), subject.path) {
            // The hub answers 401 for a model that it does not want to say whether it exists.
            (_, "RepoNotFound", _) => HubError::RepoNotFound { repo, endpoint, has_token },
            (401 | 403, "GatedRepo", _) => HubError::Gated { repo, page, has_token, message },
            (_, "RevisionNotFound", _) => HubError::RevisionNotFound { repo, revision, page },
            (401, ..) => HubError::Unauthorized { repo, endpoint, has_token },
            (403, ..) => HubError::Forbidden { repo, endpoint, message },
            (404, _, Some(path)) => {
                HubError::FileNotFound { repo, path: path.to_owned(), revision }
            }
            (404, ..) => HubError::RevisionNotFound { repo, revision, page },
            (429, ..) => HubError::RateLimited { endpoint, wait },
            _ => HubError::Server { repo, endpoint, status, message },
        }
    }
}

/// Why a request was not answered as hoped.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{status}{}", if *status == 429 { ", too many requests" } else { " from the hub" })]
    Status { status: u16, code: String, message: String, retry_after: Option<Duration> },
    #[error("connection lost: {reason}")]
    Network { host: Option<String>, reason: String },
    /// An answer that is none.
    #[error("{0}")]
    Answer(String),
}

impl Failure {
    fn network(error: &reqwest::Error) -> Self {
        let host = error.url().and_then(Url::host_str).map(str::to_owned);
        Failure::Network { host, reason: causes(error) }
    }

    /// How long to wait before the request is repeated; `None` when that would not help.
    fn pause(&self, failures: u32) -> Option<Duration> {
        if failures >= REPETITIONS {
            return None;
        }
        let doubling = FIRST_PAUSE * 2u32.pow(failures);
        match self {
            Failure::Status { status: 429, retry_after, .. } => {
                Some(retry_after.unwrap_or(doubling)).filter(|pause| *pause <= LONGEST_PAUSE)
            }
            Failure::Status { status: 408 | 500 | 502 | 503 | 504, .. }
            | Failure::Network { .. } => Some(doubling),
            Failure::Status { .. } | Failure::Answer(_) => None,
        }
    }
}

impl From<HFError> for Failure {
    fn from(error: HFError) -> Self {
        let (context, retry_after, code) = match error {
            HFError::RateLimited { retry_after, context } => (Some(context), retry_after, ""),
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context } => (Some(context), None, ""),
            HFError::RepoNotFound { context, .. } => (context, None, "RepoNotFound"),
            HFError::RevisionNotFound { context, .. } => (context, None, "RevisionNotFound"),
            HFError::EntryNotFound { context, .. } => (context, None, "EntryNotFound"),
            HFError::Request { source, .. } => {
                // An answer that is no JSON is answered again the same way.
                let parse = std::error::Error::source(&source)
                    .is_some_and(|cause| cause.is::<serde_json::Error>());
                return if parse || source.is_builder() {
                    Failure::Answer(causes(&source.without_url()))
                } else {
                    Failure::network(&source)
                };
            }
            HFError::Xet { .. } => {
                return Failure::Network { host: None, reason: plain(&error.to_string()) };
            }
            other => return Failure::Answer(plain(&other.to_string())),
        };
        let Some(context) = context else {
            let (code, message) = (code.to_owned(), String::new());
            return Failure::Status { status: 404, code, message, retry_after };
        };
        let named = context.error_code.as_deref().filter(|code| !code.is_empty());
        Failure::Status {
            status: context.status.as_u16(),
            code: plain(named.unwrap_or(code)),
            message: plain(context.server_message.as_deref().unwrap_or_default()),
            retry_after,
        }
    }
}

/// An error with its causes, without addresses: those of a content network hold signatures.
fn causes(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !parts.contains(&text) {
            parts.push(text);
        }
        cause = error.source();
    }
    if parts.is_empty() {
        parts.push("the request failed".to_owned());
    }
    plain(&parts.join(": "))
}

/// `Retry-After` as a number of seconds.
fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Foreign text for one line of a terminal: short, and without control characters.
pub(super) fn plain(text: &str) -> String {
    const LIMIT: usize = 400;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Failure {
        let retry_after = retry_after.map(Duration::from_secs);
        Failure::Status { status, code: String::new(), message: String::new(), retry_after }
    }

    #[test]
    fn a_pause_is_the_one_asked_for_or_doubles_and_ends() {
        assert_eq!(status(429, Some(7)).pause(0), Some(Duration::from_secs(7)));
        assert_eq!(status(429, Some(7)).pause(REPETITIONS), None);
        assert_eq!(status(429, Some(3600)).pause(0), None);
        assert_eq!(status(503, None).pause(0), Some(FIRST_PAUSE));
        assert_eq!(status(503, None).pause(2), Some(FIRST_PAUSE * 4));
        assert_eq!(status(404, None).pause(0), None);
        assert_eq!(status(401, None).pause(0), None);
    }

    #[test]
    fn what_the_hub_says_cannot_write_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(plain(&"x".repeat(9000)).len(), 400);
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_refused_before_any_request() {
        for endpoint in ["huggingface.co", "file:///etc", "ftp://host"] {
            let place = HubPlace::from(&|name| (name == "HF_ENDPOINT").then(|| endpoint.into()));
            let error = Connection::new(place).err().unwrap().to_string();
            assert!(error.contains(endpoint) && error.contains("https://host"), "{error}");
        }
    }
}

//! Short messages over the window: what was done, what went wrong, what can be undone.

use std::time::{Duration, Instant};

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Info,
    Success,
    Warning,
    Error,
}

/// One message. Errors stay until they are closed.
#[derive(Debug, Clone)]
pub struct Notice {
    pub severity: Severity,
    pub title: String,
    /// What to do about it; may be empty.
    pub detail: String,
}

impl Notice {
    pub fn new(severity: Severity, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { severity, title: title.into(), detail: detail.into() }
    }
}

/// A notice on screen.
#[derive(Debug, Clone)]
pub struct Shown {
    pub notice: Notice,
    pub since: Instant,
    pub count: usize,
}

/// The notices on screen, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    pub shown: Vec<Shown>,
}

impl Notices {
    const LIMIT: usize = 5;

    /// Shows a notice; the same one again only counts up.
    pub fn push(&mut self, notice: Notice) {
        let same = |shown: &&mut Shown| {
            shown.notice.title == notice.title && shown.notice.detail == notice.detail
        };
        if let Some(shown) = self.shown.iter_mut().find(same) {
            shown.count += 1;
            shown.since = Instant::now();
            return;
        }
        self.shown.push(Shown { notice, since: Instant::now(), count: 1 });
        if self.shown.len() > Self::LIMIT {
            self.shown.remove(0);
        }
    }

    /// Drops those whose time is over; the time until the next one goes.
    pub fn expire(&mut self) -> Option<Duration> {
        let life = |shown: &Shown| match shown.notice.severity {
            Severity::Error => None,
            Severity::Warning => Some(Duration::from_secs(12)),
            Severity::Info | Severity::Success => Some(Duration::from_secs(6)),
        };
        self.shown.retain(|s| life(s).is_none_or(|life| s.since.elapsed() < life));
        self.shown.iter().filter_map(|s| Some(life(s)?.saturating_sub(s.since.elapsed()))).min()
    }
}

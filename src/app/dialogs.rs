//! File dialogs that the window does not wait for: one is asked for, its answer is polled.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// Endings that a dialog offers, under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    pub name: &'static str,
    pub extensions: &'static [&'static str],
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialogAnswer {
    /// Files to open; at least one.
    Files(Vec<PathBuf>),
    Folder(PathBuf),
    /// Where to save.
    Save(PathBuf),
    /// Nothing, or the system has no dialogs.
    Cancelled,
}

/// Where answers come from.
#[derive(Debug)]
enum Source {
    /// The system's dialogs, each on a thread of its own.
    Native(egui::Context),
    /// This path at once, whatever is asked: for scripted runs.
    Fixed(PathBuf),
}

/// At most one open dialog.
#[derive(Debug)]
pub struct Dialogs {
    source: Source,
    open: Option<Receiver<DialogAnswer>>,
}

impl Dialogs {
    /// The system's dialogs; `context` is repainted when an answer is there.
    pub fn native(context: &egui::Context) -> Self {
        Self { source: Source::Native(context.clone()), open: None }
    }

    /// Answers every question with `path`.
    pub fn fixed(path: PathBuf) -> Self {
        Self { source: Source::Fixed(path), open: None }
    }

    /// Whether a dialog waits for the user. Asking for another one is then ignored.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Asks for files to open; `filters` in order of preference.
    pub fn open_files(&mut self, filters: &[Filter]) {
        let dialog = with_filters(rfd::FileDialog::new(), filters);
        self.ask(
            move || dialog.pick_files().filter(|files| !files.is_empty()).map(DialogAnswer::Files),
            |path| DialogAnswer::Files(vec![path]),
        );
    }

    /// Asks for a folder; `title` says what for.
    pub fn open_folder(&mut self, title: &str) {
        let dialog = rfd::FileDialog::new().set_title(title).set_can_create_directories(true);
        self.ask(move || dialog.pick_folder().map(DialogAnswer::Folder), DialogAnswer::Folder);
    }

    /// Asks where to save. A name typed without an ending gets that of the first filter.
    pub fn save_file(&mut self, suggested: &str, filters: &[Filter]) {
        let dialog = with_filters(rfd::FileDialog::new(), filters)
            .set_file_name(suggested)
            .set_can_create_directories(true);
        let ending = filters.first().and_then(|filter| filter.extensions.first().copied());
        self.ask(
            move || dialog.save_file().map(|path| DialogAnswer::Save(with_ending(path, ending))),
            DialogAnswer::Save,
        );
    }

    fn ask(
        &mut self,
        native: impl FnOnce() -> Option<DialogAnswer> + Send + 'static,
        fixed: impl FnOnce(PathBuf) -> DialogAnswer,
    ) {
        if self.is_open() {
            return;
        }
        let (sender, receiver) = channel();
        match &self.source {
            Source::Fixed(path) => {
                // The receiver is right here.
                let _ = sender.send(fixed(path.clone()));
            }
            Source::Native(context) => {
                let context = context.clone();
                let work = move || {
                    // Nobody listens when the window was closed meanwhile.
                    let _ = sender.send(native().unwrap_or(DialogAnswer::Cancelled));
                    context.request_repaint_of(egui::ViewportId::ROOT);
                };
                // Without a thread the sender is dropped, which polls as cancelled.
                let _ = std::thread::Builder::new().name("dialog".to_owned()).spawn(work);
            }
        }
        self.open = Some(receiver);
    }

    /// The answer, once, when it is there. Never waits.
    pub fn poll(&mut self) -> Option<DialogAnswer> {
        let answer = match self.open.as_ref()?.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => DialogAnswer::Cancelled,
        };
        self.open = None;
        Some(answer)
    }
}

fn with_filters(dialog: rfd::FileDialog, filters: &[Filter]) -> rfd::FileDialog {
    filters.iter().fold(dialog, |dialog, filter| dialog.add_filter(filter.name, filter.extensions))
}

/// The portal and GTK do not add the ending themselves.
fn with_ending(path: PathBuf, ending: Option<&str>) -> PathBuf {
    match ending {
        Some(ending) if path.extension().is_none() => path.with_extension(ending),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_once() {
        let mut dialogs = Dialogs::fixed(PathBuf::from("here.png"));
        assert_eq!(dialogs.poll(), None);
        dialogs.save_file("suggested.png", &[]);
        assert!(dialogs.is_open());
        assert_eq!(dialogs.poll(), Some(DialogAnswer::Save(PathBuf::from("here.png"))));
        assert_eq!(dialogs.poll(), None);
        assert!(!dialogs.is_open());
    }

    #[test]
    fn a_second_dialog_does_not_replace_the_one_that_is_open() {
        let mut dialogs = Dialogs::fixed(PathBuf::from("here"));
        dialogs.open_folder("Export to");
        dialogs.open_files(&[]);
        assert_eq!(dialogs.poll(), Some(DialogAnswer::Folder(PathBuf::from("here"))));
        assert_eq!(dialogs.poll(), None);
    }

    #[test]
    fn a_dialog_that_dies_is_a_cancelled_one() {
        let mut dialogs = Dialogs::fixed(PathBuf::new());
        let (sender, receiver) = channel();
        dialogs.open = Some(receiver);
        drop(sender);
        assert_eq!(dialogs.poll(), Some(DialogAnswer::Cancelled));
    }

    #[test]
    fn a_name_without_an_ending_gets_one() {
        let named = |path: &str| with_ending(PathBuf::from(path), Some("png"));
        assert_eq!(named("a/cake"), PathBuf::from("a/cake.png"));
        assert_eq!(named("a/cake.svg"), PathBuf::from("a/cake.svg"));
    }
}

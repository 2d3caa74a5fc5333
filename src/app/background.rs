//! File work off the window's thread: one task after another, each ends in exactly one answer.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};

use super::intake::TakenIn;

/// Something to be done with files.
pub type Task = Box<dyn FnOnce() -> Answer + Send>;

/// What came of a task.
pub enum Answer {
    TakenIn(TakenIn),
    /// An image was saved so that it can be a query.
    QueryImage(PathBuf),
    Exported(PathBuf),
    /// Nothing to tell: an autosave.
    Quiet,
    Failed {
        title: String,
        detail: String,
    },
}

/// The worker.
pub struct Background {
    tasks: Sender<Task>,
    answers: Receiver<Answer>,
}

impl Background {
    /// `wake` is called after every answer.
    pub fn new(wake: impl Fn() + Send + 'static) -> Self {
        let (tasks, asked) = std::sync::mpsc::channel::<Task>();
        let (send, answers) = std::sync::mpsc::channel();
        let work = move || {
            for task in asked {
                let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
                let answer = answer.unwrap_or_else(|_| Answer::Failed {
                    title: "Reading or writing a file failed".to_owned(),
                    detail: "An internal error; please report it with the file.".to_owned(),
                });
                if send.send(answer).is_err() {
                    return;
                }
                wake();
            }
        };
        // Without the worker every task is answered by silence; the window itself still works.
        let _ = std::thread::Builder::new().name("files".to_owned()).spawn(work);
        Self { tasks, answers }
    }

    pub fn run(&self, task: impl FnOnce() -> Answer + Send + 'static) {
        let _ = self.tasks.send(Box::new(task));
    }

    /// The next answer, if there is one.
    pub fn poll(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

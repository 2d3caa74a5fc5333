//! Ctrl-C asks the running job to stop at its next step; nothing is cut in the middle.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Ctrl-C was pressed.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C and for a polite request to terminate.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub fn listen() -> Result<Self, ctrlc::Error> {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        ctrlc::set_handler(move || {
            if !flag.0.swap(true, Ordering::SeqCst) {
                eprintln!("\nstopping after the running step \u{2026}");
            }
        })?;
        Ok(interrupt)
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// `Break` once Ctrl-C was pressed.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

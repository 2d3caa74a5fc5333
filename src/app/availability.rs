//! Which commands can be used now, and why the others cannot.

use super::command::UiCommand;
use super::state::State;
use super::state::jobs::JobKind;

/// Whether something can be taken back or repeated.
#[derive(Debug, Clone, Copy, Default)]
pub struct UndoState {
    pub can_undo: bool,
    pub can_redo: bool,
}

/// Ok when a command can be used now.
///
/// # Errors
/// What is missing, as the end of a sentence for people.
pub fn availability(
    command: UiCommand,
    state: &State,
    undo: UndoState,
) -> Result<(), &'static str> {
    let need = |is_so: bool, reason: &'static str| if is_so { Ok(()) } else { Err(reason) };
    let result = state.entry().and_then(|entry| entry.result.as_ref());
    match command {
        UiCommand::Stop => need(
            state.enlarged.is_some() || state.jobs.iter().any(|job| job.kind != JobKind::Warm),
            "Nothing is running",
        ),
        UiCommand::StopAll => need(!state.jobs.is_empty(), "Nothing is running"),
        UiCommand::Undo => need(undo.can_undo, "There is nothing to take back"),
        UiCommand::Redo => need(undo.can_redo, "Nothing was taken back"),
        UiCommand::PreviousQuery | UiCommand::NextQuery | UiCommand::Compare => {
            need(state.history.len() > 1, "There is only one query; run another first")
        }
        UiCommand::SwapCompared => {
            need(state.compared.is_some(), "Nothing is compared; press C first")
        }
        UiCommand::EnlargeTile
        | UiCommand::SelectAll
        | UiCommand::ExportSheet
        | UiCommand::ExportFolder
        | UiCommand::CopyRecipe
        | UiCommand::CopyCommand
        | UiCommand::CopyImage => need(result.is_some(), "Run a query first"),
        UiCommand::NewSeed => {
            need(state.form.query().is_some(), "Type a text or open an image first")
        }
        UiCommand::ClearSelection => need(!state.selection.is_empty(), "Nothing is selected"),
        UiCommand::Isolate => {
            need(!state.selection.is_empty() || state.selection.isolated, "Nothing is selected")
        }
        UiCommand::Traverse => {
            need(result.is_some(), "Run a query first")?;
            need(
                state.selection.dimensions().next().is_some(),
                "Select dimensions in the Uncertainty pane first",
            )
        }
        _ => Ok(()),
    }
}

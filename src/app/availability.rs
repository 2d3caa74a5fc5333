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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::app::action::Action;
    use crate::app::core::Core;
    use crate::app::layout::PaneKind;
    use crate::app::state::history::{DecodeState, Entry, TileState};
    use crate::app::state::selection::{Item, SelectMode};
    use crate::app::state::settings::Settings;
    use crate::session::Assets;
    use crate::session::engine::channel;

    fn core() -> Core {
        let (engine, _) = channel(1, || {});
        Core::new(Assets::find(None).unwrap(), Settings::default(), engine)
    }

    /// A window's core with one analysed query on screen.
    pub(in crate::app) fn core_with_a_result() -> Core {
        let mut core = core();
        let result = crate::export::figures::tests::result();
        let id = core.state.history.next_id();
        core.state.history.insert(Entry {
            id,
            recipe: result.recipe.clone(),
            tiles: vec![TileState::Empty; result.samples.len() + 1],
            result: Some(Arc::new(result)),
            decode: DecodeState::NotAsked,
            pinned: false,
            asked: SystemTime::now(),
            warnings: Vec::new(),
        });
        core.state.current = Some(id);
        core
    }

    fn of(command: UiCommand, core: &Core) -> Result<(), &'static str> {
        availability(command, &core.state, UndoState::default())
    }

    #[test]
    fn without_a_query_what_needs_one_says_so() {
        let core = core();
        for command in [UiCommand::ExportSheet, UiCommand::CopyRecipe, UiCommand::Traverse] {
            assert_eq!(of(command, &core), Err("Run a query first"), "{command:?}");
        }
        assert_eq!(of(UiCommand::Stop, &core), Err("Nothing is running"));
        assert!(of(UiCommand::Compare, &core).is_err());
        for command in [UiCommand::FocusQuery, UiCommand::Palette, UiCommand::Quit] {
            assert_eq!(of(command, &core), Ok(()), "{command:?}");
        }
    }

    #[test]
    fn a_walk_needs_selected_dimensions() {
        let mut core = core_with_a_result();
        assert_eq!(of(UiCommand::ExportSheet, &core), Ok(()));
        assert_eq!(
            of(UiCommand::Traverse, &core),
            Err("Select dimensions in the Uncertainty pane first")
        );
        core.apply(Action::Select {
            items: vec![Item::Dimension(1)],
            mode: SelectMode::Replace,
            from: PaneKind::Uncertainty,
        });
        assert_eq!(of(UiCommand::Traverse, &core), Ok(()));
        assert_eq!(of(UiCommand::ClearSelection, &core), Ok(()));
    }

    #[test]
    fn undo_and_redo_follow_their_stacks() {
        let core = core();
        let state = |can_undo, can_redo| UndoState { can_undo, can_redo };
        let undo = |undo| availability(UiCommand::Undo, &core.state, undo);
        let redo = |undo| availability(UiCommand::Redo, &core.state, undo);
        assert!(undo(state(true, false)).is_ok() && redo(state(true, false)).is_err());
        assert!(undo(state(false, true)).is_err() && redo(state(false, true)).is_ok());
    }
}

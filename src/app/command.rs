//! Every command of the window: its name, what it does in words, and its key. Menus, buttons, the
//! palette and the sheet of keys all come from this one list.

use egui::{Key, KeyboardShortcut, Modifiers};

use super::icons;
use super::layout::PaneKind;

/// A command without arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UiCommand {
    FocusQuery,
    Run,
    RunAndDecode,
    Stop,
    StopAll,
    OpenFile,
    Paste,
    NewSeed,
    PreviousQuery,
    NextQuery,
    Undo,
    Redo,
    Compare,
    SwapCompared,
    EnlargeTile,
    LargerTiles,
    SmallerTiles,
    ClearSelection,
    Isolate,
    SelectAll,
    Traverse,
    ExportSheet,
    ExportFolder,
    CopyCommand,
    CopyRecipe,
    CopyImage,
    OpenSession,
    SaveSession,
    ShowQuery,
    ShowSamples,
    ShowRetrieval,
    ShowUncertainty,
    ShowMap,
    ShowStudies,
    ShowCompare,
    ShowTrain,
    ShowEvaluate,
    ResetLayout,
    ToggleTheme,
    Settings,
    Palette,
    Keys,
    RestartEngine,
    Quit,
}

/// Name, explanation, icon and key of one command.
pub struct CommandText {
    pub name: &'static str,
    pub tooltip: &'static str,
    pub icon: &'static str,
    pub key: Option<KeyboardShortcut>,
}

const fn plain(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::NONE, key))
}

const fn ctrl(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND, key))
}

const fn ctrl_shift(key: Key) -> Option<KeyboardShortcut> {
    Some(KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), key))
}

/// A shortcut as people read it: "Ctrl+P", "/", "[".
pub fn key_text(context: &egui::Context, shortcut: &KeyboardShortcut) -> String {
    let text = context.format_shortcut(shortcut);
    let symbol = match shortcut.logical_key {
        Key::Slash => "/",
        Key::OpenBracket => "[",
        Key::CloseBracket => "]",
        Key::Equals => "=",
        Key::Minus => "-",
        Key::Comma => ",",
        Key::Questionmark => "?",
        _ => return text,
    };
    text.replace(shortcut.logical_key.name(), symbol)
}

impl UiCommand {
    /// In the order of the palette.
    pub const ALL: [UiCommand; 44] = {
        use UiCommand::*;
        [
            FocusQuery,
            Run,
            RunAndDecode,
            Stop,
            StopAll,
            OpenFile,
            Paste,
            NewSeed,
            PreviousQuery,
            NextQuery,
            Undo,
            Redo,
            Compare,
            SwapCompared,
            EnlargeTile,
            LargerTiles,
            SmallerTiles,
            ClearSelection,
            Isolate,
            SelectAll,
            Traverse,
            ExportSheet,
            ExportFolder,
            CopyCommand,
            CopyRecipe,
            CopyImage,
            OpenSession,
            SaveSession,
            ShowQuery,
            ShowSamples,
            ShowRetrieval,
            ShowUncertainty,
            ShowMap,
            ShowStudies,
            ShowCompare,
            ShowTrain,
            ShowEvaluate,
            ResetLayout,
            ToggleTheme,
            Settings,
            Palette,
            Keys,
            RestartEngine,
            Quit,
        ]
    };

    pub fn text(self) -> CommandText {
        let (name, tooltip, icon, key) = match self {
            Self::FocusQuery => (
                "Edit the query",
                "Puts the cursor into the text box",
                icons::TEXT_AA,
                plain(Key::Slash),
            ),
            Self::Run => (
                "Run the query",
                "Embeds the query and shows its uncertainty and retrieval",
                icons::PLAY,
                ctrl_shift(Key::Enter),
            ),
            Self::RunAndDecode => (
                "Run and decode",
                "Runs the query and decodes its samples to images",
                icons::PLAY,
                ctrl(Key::Enter),
            ),
            Self::Stop => (
                "Stop",
                "Ends the running job after its current step; finished tiles stay",
                icons::STOP_CIRCLE,
                plain(Key::Escape),
            ),
            Self::StopAll => (
                "Stop everything",
                "Ends the running job and takes all waiting ones out of the queue",
                icons::STOP_CIRCLE,
                ctrl_shift(Key::X),
            ),
            Self::OpenFile => (
                "Open…",
                "Opens an image, a sheet, a recipe, an embedding or a session",
                icons::FOLDER_OPEN,
                ctrl(Key::O),
            ),
            Self::Paste => (
                "Paste as query",
                "Takes an image, a path or a text from the clipboard",
                icons::CLIPBOARD,
                ctrl(Key::V),
            ),
            Self::NewSeed => (
                "New seed",
                "Draws other samples of the same distribution",
                icons::DICE_FIVE,
                ctrl(Key::R),
            ),
            Self::PreviousQuery => (
                "Previous query",
                "Shows the query before this one",
                icons::ARROW_LEFT,
                plain(Key::OpenBracket),
            ),
            Self::NextQuery => (
                "Next query",
                "Shows the query after this one",
                icons::ARROW_RIGHT,
                plain(Key::CloseBracket),
            ),
            Self::Undo => (
                "Undo",
                "Takes back the last change of the query or the view",
                icons::ARROW_COUNTER_CLOCKWISE,
                ctrl(Key::Z),
            ),
            Self::Redo => {
                ("Redo", "Repeats what was taken back", icons::ARROW_CLOCKWISE, ctrl_shift(Key::Z))
            }
            Self::Compare => (
                "Compare with the query before",
                "Puts the query before this one beside it, on shared scales",
                icons::SQUARE_SPLIT_HORIZONTAL,
                plain(Key::C),
            ),
            Self::SwapCompared => (
                "Swap A and B",
                "Exchanges the two compared queries",
                icons::ARROWS_CLOCKWISE,
                ctrl_shift(Key::C),
            ),
            Self::EnlargeTile => (
                "Large view",
                "Shows the selected tile large; arrow keys go on to the next",
                icons::ARROWS_OUT,
                plain(Key::Enter),
            ),
            Self::LargerTiles => {
                ("Larger tiles", "Fewer, larger sample tiles", icons::PLUS, plain(Key::Equals))
            }
            Self::SmallerTiles => {
                ("Smaller tiles", "More, smaller sample tiles", icons::MINUS, plain(Key::Minus))
            }
            Self::ClearSelection => {
                ("Clear the selection", "Selects nothing, in all panes", icons::X, ctrl(Key::D))
            }
            Self::Isolate => (
                "Isolate the selection",
                "Hides what is not selected; again shows it faded",
                icons::FUNNEL,
                plain(Key::I),
            ),
            Self::SelectAll => {
                ("Select all samples", "Selects every sample", icons::GRID_FOUR, ctrl(Key::A))
            }
            Self::Traverse => (
                "Walk the selected dimensions",
                "Decodes the mean moved along the selected dimensions by -3 to 3 standard deviations",
                icons::WAVE_SINE,
                plain(Key::T),
            ),
            Self::ExportSheet => (
                "Export sheet…",
                "Saves everything as one image that carries its recipe; drop it here to restore it",
                icons::EXPORT,
                ctrl(Key::E),
            ),
            Self::ExportFolder => (
                "Export result folder…",
                "Saves sheet, tiles, tables, arrays and recipe, as haze sample does",
                icons::FOLDER_OPEN,
                ctrl_shift(Key::E),
            ),
            Self::CopyCommand => (
                "Copy command line",
                "Copies the command that makes the same result without a window",
                icons::COMMAND,
                None,
            ),
            Self::CopyRecipe => {
                ("Copy recipe", "Copies the recipe as JSON", icons::COPY, ctrl_shift(Key::R))
            }
            Self::CopyImage => (
                "Copy image",
                "Copies the selected tile, or the mean",
                icons::COPY,
                ctrl_shift(Key::I),
            ),
            Self::OpenSession => (
                "Open session…",
                "Opens queries and views that were saved",
                icons::FOLDER_OPEN,
                None,
            ),
            Self::SaveSession => (
                "Save session…",
                "Saves all queries and the view to one file",
                icons::FLOPPY_DISK,
                ctrl(Key::S),
            ),
            Self::ShowQuery => (
                "Show Query",
                "Brings the Query pane to the front",
                icons::TEXT_AA,
                ctrl(Key::Num1),
            ),
            Self::ShowSamples => (
                "Show Samples",
                "Brings the Samples pane to the front",
                icons::GRID_FOUR,
                plain(Key::G),
            ),
            Self::ShowRetrieval => (
                "Show Retrieval",
                "Brings the Retrieval pane to the front",
                icons::RANKING,
                plain(Key::R),
            ),
            Self::ShowUncertainty => (
                "Show Uncertainty",
                "Brings the Uncertainty pane to the front",
                icons::WAVE_SINE,
                plain(Key::U),
            ),
            Self::ShowMap => (
                "Show Map",
                "Brings the Map pane to the front",
                icons::CHART_SCATTER,
                plain(Key::M),
            ),
            Self::ShowStudies => (
                "Show Studies",
                "Walks, embeddings x noises, and ladders",
                icons::STAIRS,
                plain(Key::S),
            ),
            Self::ShowCompare => (
                "Show Compare",
                "Brings the Compare pane to the front",
                icons::SQUARE_SPLIT_HORIZONTAL,
                None,
            ),
            Self::ShowTrain => {
                ("Show Train", "Brings the Train pane to the front", icons::BARBELL, None)
            }
            Self::ShowEvaluate => {
                ("Show Evaluate", "Brings the Evaluate pane to the front", icons::GAUGE, None)
            }
            Self::ResetLayout => {
                ("Reset layout", "Puts all panes back to their places", icons::DESKTOP, None)
            }
            Self::ToggleTheme => (
                "Light or dark",
                "Switches between the light and the dark theme",
                icons::CIRCLE_HALF,
                ctrl_shift(Key::L),
            ),
            Self::Settings => {
                ("Settings…", "Theme, scale, device, colour map", icons::GEAR_SIX, ctrl(Key::Comma))
            }
            Self::Palette => {
                ("All commands…", "Finds a command by its name", icons::COMMAND, ctrl(Key::P))
            }
            Self::Keys => {
                ("Keyboard", "Shows every key", icons::KEYBOARD, plain(Key::Questionmark))
            }
            Self::RestartEngine => (
                "Restart the engine",
                "Opens the device anew and loads the models again; nothing on screen is lost",
                icons::CPU,
                None,
            ),
            Self::Quit => ("Quit", "Closes Haze; the session is kept", icons::X, ctrl(Key::Q)),
        };
        CommandText { name, tooltip, icon, key }
    }

    /// The pane that a command brings to the front.
    pub fn pane(self) -> Option<PaneKind> {
        match self {
            Self::ShowQuery => Some(PaneKind::Query),
            Self::ShowSamples => Some(PaneKind::Samples),
            Self::ShowRetrieval => Some(PaneKind::Retrieval),
            Self::ShowUncertainty => Some(PaneKind::Uncertainty),
            Self::ShowMap => Some(PaneKind::Map),
            Self::ShowStudies => Some(PaneKind::Studies),
            Self::ShowCompare => Some(PaneKind::Compare),
            Self::ShowTrain => Some(PaneKind::Train),
            Self::ShowEvaluate => Some(PaneKind::Evaluate),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_share_a_key() {
        for (i, a) in UiCommand::ALL.iter().enumerate() {
            for b in &UiCommand::ALL[i + 1..] {
                assert_ne!(a, b);
                if let (Some(key), Some(other)) = (a.text().key, b.text().key) {
                    assert_ne!(key, other, "{a:?} and {b:?}");
                }
            }
        }
    }
}

use std::time::SystemTime;

use super::*;
use crate::app::state::settings::Settings;
use crate::export::figures::tests as figures;
use crate::export::metadata::read_sheet;
use crate::session::Assets;
use crate::session::engine::JobId;

fn state() -> State {
    let mut state = State::new(Assets::find(None).unwrap(), Settings::default());
    state.map = Some(Arc::new(figures::map()));
    state
}

/// A state that shows `result` with `finished` of its tiles drawn.
fn showing(result: QueryResult, finished: usize, decode: DecodeState) -> State {
    let mut state = state();
    let id = state.history.next_id();
    let tile = |i| match i < finished {
        true => TileState::Done(Arc::new(figures::tile())),
        false => TileState::Empty,
    };
    let tiles = (0..=result.samples.len()).map(tile).collect();
    state.history.insert(Entry {
        id,
        recipe: result.recipe.clone(),
        result: Some(Arc::new(result)),
        tiles,
        decode,
        pinned: false,
        asked: SystemTime::now(),
        warnings: Vec::new(),
    });
    state.current = Some(id);
    state
}

fn decoded() -> QueryResult {
    let mut result = figures::result();
    result.mean_tile = Some(figures::tile());
    result.tiles = result.samples.iter().map(|_| figures::tile()).collect();
    result
}

fn running() -> DecodeState {
    DecodeState::Running(JobId(1))
}

#[test]
fn without_a_result_the_user_is_told_what_to_do() {
    let state = state();
    for request in [ExportRequest::Sheet, ExportRequest::Folder, ExportRequest::Tile(0)] {
        let refusal = plan(&state, request).err().unwrap();
        assert!(refusal.contains("Ctrl+Enter"), "{refusal}");
    }
    let pane = |pane| ExportRequest::Pane { pane, format: ExportFormat::Png };
    for kind in PaneKind::ALL {
        let refusal = plan(&state, pane(kind)).err().unwrap();
        assert!(refusal.len() > 20, "{kind:?}: {refusal}");
    }
}

#[test]
fn a_sheet_is_refused_while_tiles_are_missing_and_a_folder_then_has_none() {
    let state = showing(figures::result(), 11, running());
    let refusal = plan(&state, ExportRequest::Sheet).err().unwrap();
    assert!(refusal.starts_with("11 of 17 tiles are finished"), "{refusal}");

    let folder = tempfile::tempdir().unwrap();
    let work = plan(&state, ExportRequest::Folder).unwrap().to(folder.path().to_owned());
    let written = work().unwrap();
    assert!(written.join("recipe.json").is_file());
    assert!(!written.join("tiles").exists());
    let recipe = Recipe::read(&written.join("recipe.json")).unwrap();
    assert_eq!(recipe.models.decoder, None);
}

#[test]
fn the_sheet_of_an_undecoded_query_asks_for_no_decoder_when_it_is_repeated() {
    let state = showing(figures::result(), 0, DecodeState::NotAsked);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    plan(&state, ExportRequest::Sheet).unwrap().to(path.clone())().unwrap();
    let sheet = SheetMetadata::read(&path).unwrap();
    assert_eq!(sheet.recipe.models.decoder, None);
    assert_eq!(sheet.mean_tile, None);
}

#[test]
fn the_sheet_of_a_decoded_query_names_every_tile() {
    let state = showing(decoded(), 17, DecodeState::Finished);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    plan(&state, ExportRequest::Sheet).unwrap().to(path.clone())().unwrap();
    let sheet = SheetMetadata::read(&path).unwrap();
    assert!(sheet.recipe.models.decoder.is_some());
    assert!(sheet.tiles.iter().all(|tile| tile.hash.as_deref() == Some("00")));
    assert!(read_sheet(&path).unwrap().0.width() > 1000);
}

#[test]
fn a_sheet_waits_for_the_embeddings_of_the_last_tiles() {
    let state = showing(figures::result(), 17, running());
    let refusal = plan(&state, ExportRequest::Sheet).err().unwrap();
    assert!(refusal.starts_with("All 17 tiles"), "{refusal}");
}

#[test]
fn a_tile_is_exported_once_it_is_finished() {
    let state = showing(figures::result(), 3, running());
    let folder = tempfile::tempdir().unwrap();
    let tile = plan(&state, ExportRequest::Tile(2)).unwrap();
    assert!(tile.suggested.ends_with("-sample-1.png"), "{}", tile.suggested);
    let path = folder.path().join("tile.png");
    tile.to(path.clone())().unwrap();
    assert_eq!(image::open(path).unwrap().to_rgb8(), figures::tile().image);
    let refusal = plan(&state, ExportRequest::Tile(5)).err().unwrap();
    assert!(refusal.starts_with("Sample 4 is not decoded yet"), "{refusal}");
}

#[test]
fn every_pane_with_content_is_written_in_every_format_under_a_fitting_name() {
    let state = showing(figures::result(), 0, DecodeState::NotAsked);
    let folder = tempfile::tempdir().unwrap();
    let panes = [PaneKind::Samples, PaneKind::Retrieval, PaneKind::Uncertainty, PaneKind::Map];
    let formats = [ExportFormat::Png, ExportFormat::Svg, ExportFormat::Csv, ExportFormat::Npz];
    for pane in panes {
        for format in formats {
            let plan = plan(&state, ExportRequest::Pane { pane, format }).unwrap();
            assert!(plan.suggested.starts_with("a-very-long-query"), "{}", plan.suggested);
            let path = folder.path().join(&plan.suggested);
            assert_eq!(plan.to(path.clone())().unwrap(), path);
            assert!(path.metadata().unwrap().len() > 100);
        }
    }
}

#[test]
fn an_export_into_a_folder_that_is_gone_says_so() {
    let state = showing(figures::result(), 0, DecodeState::NotAsked);
    let request = ExportRequest::Pane { pane: PaneKind::Map, format: ExportFormat::Csv };
    let error = plan(&state, request).unwrap().to(PathBuf::from("/no/such/folder/map.csv"))();
    assert!(error.unwrap_err().contains("/no/such/folder/map.csv"));
}

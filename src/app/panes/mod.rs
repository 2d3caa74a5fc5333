//! The panes. Each is a small struct with the view state that is its own, and a `ui` that reads
//! the shared state and sends actions.

mod axes;
pub mod compare;
pub mod evaluate;
mod hover;
pub mod map;
pub mod query;
pub mod retrieval;
pub mod samples;
pub mod studies;
pub mod train;
pub mod uncertainty;

use super::action::Action;
use super::gpu::Gpu;
use super::state::State;
use super::textures::Textures;
use super::theme::Theme;

/// What a pane draws with.
pub struct Cx<'a> {
    pub state: &'a State,
    pub theme: &'a Theme,
    pub textures: &'a mut Textures,
    /// What the own shaders draw with; `None` where the window is drawn without wgpu.
    pub gpu: Option<&'a Gpu>,
    actions: &'a mut Vec<Action>,
}

impl<'a> Cx<'a> {
    pub fn new(
        state: &'a State,
        theme: &'a Theme,
        textures: &'a mut Textures,
        gpu: Option<&'a Gpu>,
        actions: &'a mut Vec<Action>,
    ) -> Self {
        Self { state, theme, textures, gpu, actions }
    }

    /// Sends an action, which is applied after this frame.
    pub fn send(&mut self, action: Action) {
        self.actions.push(action);
    }
}

/// All panes with their own view state.
#[derive(Default)]
pub struct Panes {
    pub query: query::QueryPane,
    pub samples: samples::SamplesPane,
    pub retrieval: retrieval::RetrievalPane,
    pub uncertainty: uncertainty::UncertaintyPane,
    pub map: map::MapPane,
    pub studies: studies::StudiesPane,
    pub compare: compare::ComparePane,
    pub train: train::TrainPane,
    pub evaluate: evaluate::EvaluatePane,
}

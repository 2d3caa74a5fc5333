//! What a running job says about itself.

use super::result::{QueryResult, Retrieved};
use crate::distribution::EmbeddingDistribution;

/// Something a job reports while it runs, in order.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stage began. The text reads as a sentence: "loading the encoder".
    Stage(Stage),
    /// Progress inside the current stage.
    Progress { done: usize, total: usize },
    /// The distribution is known.
    Distribution(&'a EmbeddingDistribution),
    /// Retrieval is known; decoding may still follow.
    Retrieved(&'a Retrieved),
    /// Something the user should know about that does not stop the job.
    Warning(String),
    /// Everything is done.
    Finished(&'a QueryResult),
}

/// The stages of a query, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    LoadEncoder,
    LoadAdapter,
    LoadPrior,
    Embed,
    Predict,
    SamplePrior,
    IndexGallery,
    Search,
    Reference,
    LoadDecoder,
    Decode,
    Reencode,
    Evaluate,
    CompareRoutes,
}

impl Stage {
    /// Short name for logs and timings.
    pub fn name(self) -> &'static str {
        match self {
            Stage::LoadEncoder => "load encoder",
            Stage::LoadAdapter => "load adapter",
            Stage::LoadPrior => "load prior",
            Stage::Embed => "embed the query",
            Stage::Predict => "predict the distribution",
            Stage::SamplePrior => "sample the prior",
            Stage::IndexGallery => "index the gallery",
            Stage::Search => "search the gallery",
            Stage::Reference => "compare with the gallery's own uncertainty",
            Stage::LoadDecoder => "load decoder",
            Stage::Decode => "decode samples",
            Stage::Reencode => "embed the decoded images",
            Stage::Evaluate => "rank the gallery's captions",
            Stage::CompareRoutes => "compare the routes to image space",
        }
    }
}

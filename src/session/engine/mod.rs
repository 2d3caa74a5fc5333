//! Jobs behind a window: work goes in, typed messages come out, and nobody waits.
//!
//! Two lanes run side by side. The *interactive* lane answers in milliseconds (embed, predict,
//! rank, ladder); of what waits there, only the latest job of a kind is run. The *long* lane
//! (decode, traverse, grid, train, evaluate) takes its jobs in order and looks at every step
//! whether it was cancelled or paused. A cancel names a job id and so can never hit another job.

mod handle;
mod lanes;
mod protocol;
mod work;

pub use handle::{EngineDied, EngineEnd, EngineHandle, MessageSender, channel};
pub use lanes::start;
pub use protocol::{
    DecodeRequest, JobEvent, JobFailure, JobId, LadderRequest, LadderSteps, Message,
    NoiseGridRequest, Order, Outcome, RoutesRequest, TraverseRequest, Work,
};

pub use crate::session::studies::evaluation::{Evaluation, EvaluationBin};

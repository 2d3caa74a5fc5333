//! Downloads a model of the hub, with the progress that a window shows.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::{Assets, SessionError};
use crate::model::hub::selection::Wanted;
use crate::model::hub::{
    Connection, HubError, HubName, PullEvent, PullPlan, PullRequest, download,
};

/// Progress is told in units of this many bytes.
const UNIT: u64 = 1 << 20;

/// Downloads what Haze needs of a model into the hub's cache and returns its folder there. `tell`
/// gets MiB done and in all whenever they change, and is asked several times a second whether to
/// go on.
///
/// # Errors
/// When the model is gated (its terms are accepted on the command line, where they can be read),
/// or as [`PullPlan::make`] and [`download`].
pub fn pull(
    assets: &Assets,
    name: &HubName,
    tell: &mut dyn FnMut(Option<(usize, usize)>) -> ControlFlow<()>,
) -> Result<PathBuf, SessionError> {
    let connection = Connection::new(assets.hub().clone())?;
    let mut shown = None;
    let mut forward = |event: PullEvent<'_>| match event {
        PullEvent::Bytes { done, total } => {
            let progress = Some(((done / UNIT) as usize, total.div_ceil(UNIT) as usize));
            let news = if progress == shown { None } else { progress };
            shown = progress;
            tell(news)
        }
        _ => tell(None),
    };
    let request = PullRequest { name: name.clone(), wanted: Wanted::default() };
    let plan = PullPlan::make(&connection, &request, &mut forward)?;
    if plan.licence.gated {
        let (repo, licence) = (name.repo(), plan.licence.name);
        let page = plan.licence.page;
        return Err(HubError::LicenceNotAccepted { repo, licence, page }.into());
    }
    Ok(download(&connection, &plan, &mut forward)?)
}

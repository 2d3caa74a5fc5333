//! Tells the others once when the item hovered in a pane changes.

use super::Cx;
use crate::app::action::Action;
use crate::app::state::selection::Item;

/// What a pane last said is hovered.
#[derive(Debug, Default)]
pub struct HoverTeller {
    told: Option<Item>,
}

impl HoverTeller {
    /// Says what is hovered now, if that is news. Where another pane has taken over since, its
    /// hover is not ended.
    pub fn tell(&mut self, cx: &mut Cx<'_>, hovered: Option<Item>) {
        if hovered == self.told {
            return;
        }
        if hovered.is_some() || cx.state.selection.hovered == self.told {
            cx.send(Action::Hover(hovered));
        }
        self.told = hovered;
    }
}

//! The places at a session's desktop. When all are taken, a viewer that can act replaces another one, so that neither helpers nor forgotten
//! connections keep a user from the desktop.

use super::ActiveSession;
use anteroom_tunnel::{CloseCause, CloseSignal};
use anteroom_wire::{CallerId, Problem};
use std::sync::Arc;

/// What a viewer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerAccess {
    /// Look at the desktop.
    ViewOnly,
    /// Use keyboard and mouse.
    Control,
}

/// Who has a place, the oldest first.
#[derive(Debug, Default)]
pub(super) struct DesktopPlaces {
    taken: Vec<Place>,
    next_number: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    caller: CallerId,
    access: ViewerAccess,
    signal: CloseSignal,
}

/// A place at the desktop; dropping it frees the place.
#[derive(Debug)]
pub struct DesktopPlace {
    session: Arc<ActiveSession>,
    number: u64,
    signal: CloseSignal,
}

impl DesktopPlaces {
    /// Takes a place. If all are taken, a viewer that can act replaces the oldest viewer of its own caller, or else the oldest view-only one,
    /// or else the oldest one. Returns the place's number, its close signal, and the signal of the viewer that was replaced.
    fn take(
        &mut self,
        caller: &CallerId,
        access: ViewerAccess,
        places_max: usize,
    ) -> Result<(u64, CloseSignal, Option<CloseSignal>), Problem> {
        let replaced = match access {
            _ if self.taken.len() < places_max => None,
            ViewerAccess::ViewOnly => return Err(Problem::TooManyViewers),
            ViewerAccess::Control => Some(self.remove_replaceable(caller).ok_or(Problem::TooManyViewers)?.signal),
        };
        self.next_number += 1;
        let (number, signal) = (self.next_number, CloseSignal::new());
        self.taken.push(Place { number, caller: caller.clone(), access, signal: signal.clone() });
        Ok((number, signal, replaced))
    }

    fn remove_replaceable(&mut self, caller: &CallerId) -> Option<Place> {
        let own = self.taken.iter().position(|place| place.caller == *caller);
        let view_only = || self.taken.iter().position(|place| place.access == ViewerAccess::ViewOnly);
        let oldest = || (!self.taken.is_empty()).then_some(0);
        own.or_else(view_only).or_else(oldest).map(|index| self.taken.remove(index))
    }

    fn count(&self) -> u32 {
        u32::try_from(self.taken.len()).unwrap_or(u32::MAX)
    }
}

impl ActiveSession {
    /// Takes one of `viewers_max` places at the desktop. If all are taken, a viewer that can act replaces another one, whose place closes
    /// with [`CloseCause::ViewerReplaced`].
    ///
    /// # Errors
    /// All places are taken, and the viewer is view-only.
    pub fn take_desktop_place(
        self: &Arc<Self>,
        caller: &CallerId,
        access: ViewerAccess,
        viewers_max: u32,
    ) -> Result<DesktopPlace, Problem> {
        let (number, signal, replaced) = {
            let mut places = self.desktop_places.lock();
            let taken = places.take(caller, access, viewers_max as usize)?;
            self.update_state(|state| state.desktop_viewers = places.count());
            taken
        };
        if let Some(replaced) = replaced {
            replaced.close(CloseCause::ViewerReplaced);
        }
        Ok(DesktopPlace { session: Arc::clone(self), number, signal })
    }
}

impl DesktopPlace {
    /// Closes when another viewer needs the place.
    pub fn signal(&self) -> &CloseSignal {
        &self.signal
    }
}

impl Drop for DesktopPlace {
    fn drop(&mut self) {
        let mut places = self.session.desktop_places.lock();
        // A place that was replaced is not in the list any more.
        places.taken.retain(|place| place.number != self.number);
        self.session.update_state(|state| state.desktop_viewers = places.count());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ViewerAccess::{Control, ViewOnly},
        *,
    };

    fn caller(number: u8) -> CallerId {
        CallerId::from_parts(1, [number; 10])
    }

    /// Takes places for these viewers in order and returns the signal of each that got one.
    fn take_all(places: &mut DesktopPlaces, viewers: &[(u8, ViewerAccess)]) -> Vec<CloseSignal> {
        let places_max = viewers.len();
        viewers.iter().map(|(number, access)| places.take(&caller(*number), *access, places_max).unwrap().1).collect()
    }

    fn replaced_index(viewers: &[(u8, ViewerAccess)], newcomer: u8) -> usize {
        let mut places = DesktopPlaces::default();
        let signals = take_all(&mut places, viewers);
        let (_, own, replaced) = places.take(&caller(newcomer), Control, viewers.len()).unwrap();
        replaced.expect("one was replaced").close(CloseCause::ViewerReplaced);
        assert_eq!((places.taken.len(), own.cause()), (viewers.len(), None));
        let closed: Vec<_> = (0..viewers.len()).filter(|index| signals[*index].cause().is_some()).collect();
        assert_eq!(closed.len(), 1);
        closed[0]
    }

    #[test]
    fn viewer_that_can_act_replaces_its_callers_oldest_or_the_oldest_view_only_or_the_oldest() {
        assert_eq!(replaced_index(&[(2, ViewOnly), (1, Control), (1, Control), (3, ViewOnly)], 1), 1);
        assert_eq!(replaced_index(&[(4, Control), (2, ViewOnly), (3, ViewOnly)], 1), 1);
        assert_eq!(replaced_index(&[(4, Control), (5, Control)], 1), 0);
        assert_eq!(replaced_index(&[(1, ViewOnly)], 1), 0);
    }

    #[test]
    fn view_only_viewer_replaces_no_one_and_a_server_without_places_has_none() {
        let mut places = DesktopPlaces::default();
        take_all(&mut places, &[(1, ViewOnly), (1, ViewOnly)]);
        assert_eq!(places.take(&caller(1), ViewOnly, 2).unwrap_err(), Problem::TooManyViewers);
        assert_eq!(DesktopPlaces::default().take(&caller(1), Control, 0).unwrap_err(), Problem::TooManyViewers);
    }
}

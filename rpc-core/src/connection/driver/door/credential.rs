//! The credential of one who is in: for how long it is good, and a new one.

use std::task::Context;

use tokio::time::Instant;

use super::{Question, closing};
use crate::{
    close::{CloseCode, CloseReason},
    connection::driver::Driver,
    identity::{AuthError, Identity},
    transport::Transport,
};

impl<T: Transport> Driver<T> {
    /// A new credential of one who is in.
    pub(super) fn let_stay(
        &mut self,
        answer: Result<Option<Identity>, AuthError>,
    ) -> Result<(), CloseReason> {
        let own = self.shared.identity();
        let left = match answer {
            // Whoever is asked anew was asked before.
            Ok(None) => None,
            Ok(Some(identity)) => {
                if own.as_ref().map(Identity::user) != Some(identity.user()) {
                    return Err(CloseReason::local(
                        CloseCode::UNAUTHENTICATED,
                        "the credential is another user's",
                    ));
                }
                let left = identity.left();
                drop(self.shared.set_identity(Some(identity)));
                self.comes_in_again();
                left
            }
            // All stays as it is, until the credential runs out.
            Err(AuthError::Unavailable) => own.and_then(|own| own.left()),
            Err(refused) => return Err(closing(refused)),
        };
        self.shared
            .update(|state, _| state.connection.renewed(left));
        Ok(())
    }

    /// A new credential of one who is in may have been asked about; what has come is looked at.
    #[inline]
    pub(in crate::connection::driver) fn check_credential(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), CloseReason> {
        match &self.door {
            Some(door) if door.is_open && door.question.is_some() => self.ask(cx),
            _ => Ok(()),
        }
    }

    /// Somebody is in with another credential.
    pub(in crate::connection::driver) fn comes_in_again(&mut self) {
        let identity = self.shared.identity();
        let left = identity.and_then(|identity| identity.left());
        if let Some(door) = &mut self.door {
            door.expires = left.and_then(|left| Instant::now().checked_add(left));
        }
    }

    /// When something has to be done about the credential. While it is asked about a new one, the end
    /// of the old one is put off until that is known.
    pub(in crate::connection::driver) fn credential_due(&self) -> Option<Instant> {
        let door = self.door.as_ref()?;
        match &door.question {
            Some(Question::Who { until, .. }) => *until,
            Some(Question::Whether { .. }) => None,
            None => door.expires,
        }
    }

    /// When the credential has run out.
    pub(in crate::connection::driver) fn credential_expires(&self) -> Option<Instant> {
        let door = self.door.as_ref()?;
        door.expires.filter(|_| door.question.is_none())
    }

    /// Dialler: the acceptor has said for how long the new credential is good.
    pub(in crate::connection::driver) fn renewed(&mut self) {
        self.shared.lock().note_validity();
        self.shared.changed.notify_waiters();
    }
}

/// The dialler has sent no new credential in time.
pub(in crate::connection::driver) fn expired() -> CloseReason {
    CloseReason::local(CloseCode::CREDENTIAL_EXPIRED, "the credential has run out")
}

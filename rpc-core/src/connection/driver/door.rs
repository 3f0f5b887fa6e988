//! Who is let in: before that nothing is executed and little is kept, and afterwards it ends when the
//! credential has run out.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Driver, closed_by_peer, transport_failed};
use crate::{
    close::{CloseCode, CloseReason},
    connection::gate::{Authentication, Gate},
    identity::{AuthError, Identity},
    protocol::{Position, Resume, Token},
    transport::{Received, Transport},
};

/// So many bytes may come before it is known who has sent them.
const OUTSIDE_BYTES: u64 = 16 << 10;

/// 1013, "try again later" (RFC 6455, registered by IANA).
const TRY_AGAIN_LATER: CloseCode = CloseCode::new(1013);

/// Where an acceptor asks who its dialler is.
pub(super) struct Door {
    gate: Box<dyn Gate>,
    /// Whether the dialler has come in, with its HELLO.
    is_open: bool,
    question: Option<Question>,
    /// What has come behind HELLO, and waits.
    held: VecDeque<Bytes>,
    /// Until when the credential is good.
    expires: Option<Instant>,
}

/// What is being found out.
struct Question {
    answer: Authentication,
    /// The session that HELLO asks for.
    resume: Option<Resume>,
    /// When it is given up. HELLO has a time of its own.
    until: Option<Instant>,
}

impl<T: Transport> Driver<T> {
    /// Lets nobody in who was not asked.
    pub(in crate::connection) fn stand_at(&mut self, gate: Box<dyn Gate>) {
        self.shared.lock().connection.ask_for_credentials();
        self.door = Some(Box::new(Door {
            gate,
            is_open: false,
            question: None,
            held: VecDeque::new(),
            expires: None,
        }));
    }

    /// Whether it is not known yet who the dialler is.
    #[inline]
    pub(super) fn is_outside(&self) -> bool {
        self.door.as_ref().is_some_and(|door| !door.is_open)
    }

    /// Whether that is being found out.
    pub(super) fn is_being_asked(&self) -> bool {
        let door = self.door.as_ref();
        door.is_some_and(|door| door.question.is_some())
    }

    /// HELLO or AUTH has come.
    pub(super) fn knock(&mut self, token: Option<Token>, resume: Option<Resume>) {
        let timeout = self.shared.limits.hello_timeout;
        let Some(door) = &mut self.door else {
            return;
        };
        let until = Instant::now().checked_add(timeout);
        door.question = Some(Question {
            answer: door.gate.ask(self.shared.info.clone(), token),
            resume,
            until: until.filter(|_| door.is_open),
        });
    }

    /// Reads HELLO, and holds what comes behind it until it is known who has sent it. Says whether the
    /// dialler is let in; otherwise there is nothing to do for now.
    pub(super) fn wait_at_door(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        while self.is_outside() {
            self.ask(cx)?;
            if !self.is_outside() {
                break;
            }
            let Some(message) = self.receive_outside(cx)? else {
                return Ok(false);
            };
            match &mut self.door {
                Some(door) if door.question.is_some() => door.held.push_back(message),
                _ => self.step(cx, message, Position::default())?,
            }
        }
        Ok(true)
    }

    /// The next message, if there is one.
    fn receive_outside(&mut self, cx: &mut Context<'_>) -> Result<Option<Bytes>, CloseReason> {
        let Some(transport) = &mut self.transport else {
            return Ok(None);
        };
        let received = transport.poll_receive(cx);
        // Also of a message that is not complete.
        if transport.bytes_read() > OUTSIDE_BYTES {
            return Err(CloseReason::local(
                CloseCode::FLOOD,
                format!("more than {OUTSIDE_BYTES} bytes before WELCOME"),
            ));
        }
        match received {
            Poll::Ready(Ok(Received::Message(message))) => self.check_kind(message).map(Some),
            Poll::Ready(Ok(Received::Closed { code, reason })) => Err(closed_by_peer(code, reason)),
            Poll::Ready(Err(error)) => Err(transport_failed(&error)),
            Poll::Pending => Ok(None),
        }
    }

    /// What has waited while it was found out who has sent it.
    #[inline]
    pub(super) fn held_back(&mut self) -> Option<Bytes> {
        self.door.as_mut()?.held.pop_front()
    }

    /// Goes on to find out who the dialler is, if that is not known.
    fn ask(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(door) = &mut self.door else {
            return Ok(());
        };
        let Some(question) = &mut door.question else {
            return Ok(());
        };
        let answer = &mut question.answer;
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        let is_late = || question.until.is_some_and(|until| until <= Instant::now());
        let answer = match polled {
            Ok(Poll::Ready(answer)) => answer.and_then(sound),
            Ok(Poll::Pending) if is_late() => Err(AuthError::Unavailable),
            Ok(Poll::Pending) => return Ok(()),
            // It was reported by the panic hook.
            Err(_) => Err(AuthError::Unavailable),
        };
        let resume = question.resume.take();
        let was_outside = !door.is_open;
        // A panic in its destructor is one of the same future, which may be in any state.
        let _ = catch_unwind(AssertUnwindSafe(|| door.question = None));
        match was_outside {
            true => self.let_in(cx, answer.map_err(closing)?, resume),
            false => self.let_stay(answer),
        }
    }

    fn let_in(
        &mut self,
        cx: &mut Context<'_>,
        identity: Identity,
        resume: Option<Resume>,
    ) -> Result<(), CloseReason> {
        let left = identity.left();
        drop(self.shared.set_identity(Some(identity)));
        self.comes_in_again();
        if let Some(door) = &mut self.door {
            door.is_open = true;
            if resume.is_some() && !door.held.is_empty() {
                return Err(CloseReason::local(
                    CloseCode::PROTOCOL,
                    "something follows a HELLO that asks to resume, before WELCOME",
                ));
            }
        }
        let mut state = self.shared.lock();
        let events = &mut self.work.events;
        state.connection.admit(left, resume.as_ref(), events);
        drop(state);
        // Looked for when the rest of the message with HELLO has been read.
        self.wanted = resume;
        self.handle_events(cx, &Bytes::new());
        Ok(())
    }

    /// A new credential of one who is in.
    fn let_stay(&mut self, answer: Result<Identity, AuthError>) -> Result<(), CloseReason> {
        let own = self.shared.identity();
        let left = match answer {
            Ok(identity) => {
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
    pub(super) fn check_credential(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        match &self.door {
            Some(door) if door.is_open && door.question.is_some() => self.ask(cx),
            _ => Ok(()),
        }
    }

    /// Somebody is in with another credential.
    pub(super) fn comes_in_again(&mut self) {
        let identity = self.shared.identity();
        let left = identity.and_then(|identity| identity.left());
        if let Some(door) = &mut self.door {
            door.expires = left.and_then(|left| Instant::now().checked_add(left));
        }
    }

    /// The transport is gone, and with it what was asked there. Whoever comes back is asked again, and
    /// sends again what was not executed.
    pub(super) fn leave_door(&mut self) {
        if let Some(door) = &mut self.door {
            door.question = None;
            door.held = VecDeque::new();
            door.expires = None;
        }
    }

    /// When something has to be done about the credential. While it is asked about a new one, the end
    /// of the old one is put off until that is known.
    pub(super) fn credential_due(&self) -> Option<Instant> {
        let door = self.door.as_ref()?;
        match &door.question {
            Some(question) => question.until,
            None => door.expires,
        }
    }

    /// When the credential has run out.
    pub(super) fn credential_expires(&self) -> Option<Instant> {
        let door = self.door.as_ref()?;
        door.expires.filter(|_| door.question.is_none())
    }

    /// Dialler: the acceptor has said for how long the new credential is good.
    pub(super) fn renewed(&mut self) {
        self.shared.lock().note_validity();
        self.shared.changed.notify_waiters();
    }
}

/// An identity is one of somebody, and of now.
fn sound(identity: Identity) -> Result<Identity, AuthError> {
    let has_expired = identity.left().is_some_and(|left| left.is_zero());
    if identity.user().is_empty() || has_expired {
        return Err(AuthError::refused());
    }
    Ok(identity)
}

fn closing(error: AuthError) -> CloseReason {
    match error {
        AuthError::Refused(reason) => CloseReason::local(CloseCode::UNAUTHENTICATED, reason),
        AuthError::Unavailable => unavailable(),
    }
}

/// Nobody knows who the dialler is.
pub(super) fn unavailable() -> CloseReason {
    CloseReason::local(TRY_AGAIN_LATER, AuthError::Unavailable.to_string())
}

/// The dialler has sent no new credential in time.
pub(super) fn expired() -> CloseReason {
    CloseReason::local(CloseCode::CREDENTIAL_EXPIRED, "the credential has run out")
}

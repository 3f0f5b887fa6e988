//! Who is let in: before that nothing is executed and little is kept.

mod credential;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::time::Instant;

pub(super) use credential::expired;

use super::{Driver, closed_by_peer, transport_failed};
use crate::{
    close::{CloseCode, CloseReason},
    connection::gate::{Admission, Authentication, Gate},
    identity::{AuthError, Identity},
    protocol::{Position, Refusal, Resume, Token},
    status::{Code, Status},
    transport::{Received, Transport},
};

/// So many bytes may come before it is known who has sent them.
const OUTSIDE_BYTES: u64 = 16 << 10;

/// 1013, "try again later" (RFC 6455, registered by IANA).
const TRY_AGAIN_LATER: CloseCode = CloseCode::new(1013);

/// Where an acceptor asks who its dialler is, and whether a session of it may begin.
pub(super) struct Door {
    gate: Box<dyn Gate>,
    /// Whether the dialler has come in, with its HELLO. Shut again where that asks for a session that
    /// does not go on: another one may begin, or not.
    is_open: bool,
    question: Option<Question>,
    /// What has come behind HELLO, and waits.
    held: VecDeque<Bytes>,
    /// Until when the credential is good.
    expires: Option<Instant>,
}

/// What is being found out.
enum Question {
    /// Who the dialler is.
    Who {
        /// None where nobody has to say it.
        answer: Option<Authentication>,
        /// The session that HELLO asks for.
        resume: Option<Resume>,
        /// When it is given up. HELLO has a time of its own.
        until: Option<Instant>,
    },
    /// Whether a session may begin.
    Whether {
        answer: Admission,
        /// Why the one does not go on that HELLO asks for.
        refusal: Option<Refusal>,
    },
}

impl<T: Transport> Driver<T> {
    /// Lets nobody in whom the gate does not.
    pub(in crate::connection) fn stand_at(&mut self, gate: Box<dyn Gate>) {
        let is_guarded = gate.is_guarded();
        let mut state = self.shared.lock();
        state.connection.wait_for_decision(is_guarded);
        drop(state);
        self.door = Some(Box::new(Door {
            gate,
            is_open: false,
            question: None,
            held: VecDeque::new(),
            expires: None,
        }));
    }

    /// Whether the dialler has not come in yet.
    #[inline]
    pub(super) fn is_outside(&self) -> bool {
        self.door.as_ref().is_some_and(|door| !door.is_open)
    }

    /// What is said when it takes too long to find out whether it may.
    pub(super) fn undecided(&self) -> Option<CloseReason> {
        match self.door.as_ref()?.question.as_ref()? {
            Question::Who { .. } => Some(unavailable()),
            Question::Whether { .. } => Some(not_let_in()),
        }
    }

    /// HELLO or AUTH has come.
    pub(super) fn knock(&mut self, token: Option<Token>, resume: Option<Resume>) {
        let timeout = self.shared.limits.hello_timeout;
        let Some(door) = &mut self.door else {
            return;
        };
        let until = Instant::now().checked_add(timeout);
        let is_guarded = door.gate.is_guarded();
        door.question = Some(Question::Who {
            answer: is_guarded.then(|| door.gate.ask(self.shared.info.clone(), token)),
            resume,
            until: until.filter(|_| door.is_open),
        });
    }

    /// Reads HELLO, and holds what comes behind it until its sender has come in. Says whether the
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

    /// Goes on to find out who the dialler is, and whether it may come in, if that is not known.
    fn ask(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.ask_who(cx)?;
        self.ask_whether(cx)?;
        self.handle_events(cx, &Bytes::new());
        Ok(())
    }

    fn ask_who(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(door) = &mut self.door else {
            return Ok(());
        };
        let Some(Question::Who {
            answer,
            resume,
            until,
        }) = &mut door.question
        else {
            return Ok(());
        };
        let polled = match answer {
            Some(answer) => catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx).map(Some))),
            None => Ok(Poll::Ready(None)),
        };
        let is_late = || until.is_some_and(|until| until <= Instant::now());
        let identity = match polled {
            Ok(Poll::Ready(answer)) => answer.transpose().and_then(sound),
            Ok(Poll::Pending) if is_late() => Err(AuthError::Unavailable),
            Ok(Poll::Pending) => return Ok(()),
            // It was reported by the panic hook.
            Err(_) => Err(AuthError::Unavailable),
        };
        let resume = resume.take();
        door.forget_question();
        match door.is_open {
            true => self.let_stay(identity),
            false => self.know(identity.map_err(closing)?, resume),
        }
    }

    /// It is known who the dialler is. Now it has to be found out whether it may come in.
    fn know(
        &mut self,
        identity: Option<Identity>,
        resume: Option<Resume>,
    ) -> Result<(), CloseReason> {
        drop(self.shared.set_identity(identity));
        let Some(resume) = resume else {
            return self.knock_again(None);
        };
        self.check_nothing_held()?;
        if let Some(door) = &mut self.door {
            // A session that goes on was let in when it began.
            door.is_open = true;
        }
        self.shared.lock().connection.decide();
        // Looked for when the rest of the message with HELLO has been read.
        self.wanted = Some(resume);
        Ok(())
    }

    /// Asks whether a session may begin, perhaps since another one does not go on.
    pub(super) fn knock_again(&mut self, refusal: Option<Refusal>) -> Result<(), CloseReason> {
        let Some(door) = &mut self.door else {
            self.welcome(refusal);
            return Ok(());
        };
        match door.gate.admit(&self.peer)? {
            Some(answer) => {
                door.is_open = false;
                door.question = Some(Question::Whether { answer, refusal });
            }
            None => self.let_in(refusal),
        }
        Ok(())
    }

    fn ask_whether(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(door) = &mut self.door else {
            return Ok(());
        };
        let Some(Question::Whether { answer, refusal }) = &mut door.question else {
            return Ok(());
        };
        let refusal = *refusal;
        let answer = match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
            Ok(Poll::Ready(answer)) => answer.map_err(|status| CloseReason::refused(&status)),
            Ok(Poll::Pending) => return Ok(()),
            // It was reported by the panic hook.
            Err(_) => Err(not_let_in()),
        };
        door.forget_question();
        answer?;
        if refusal.is_some() {
            self.check_nothing_held()?;
        }
        self.let_in(refusal);
        Ok(())
    }

    /// Lets the dialler in, with a session that begins.
    fn let_in(&mut self, refusal: Option<Refusal>) {
        if let Some(door) = &mut self.door {
            door.is_open = true;
        }
        self.comes_in_again();
        self.welcome(refusal);
    }

    fn welcome(&mut self, refusal: Option<Refusal>) {
        let identity = self.shared.identity();
        let left = identity.and_then(|identity| identity.left());
        let mut state = self.shared.lock();
        let connection = &mut state.connection;
        connection.is_good_for(left);
        connection.welcome(refusal, &mut self.work.get().events);
    }

    /// Behind a HELLO that asks to resume nothing comes before WELCOME.
    fn check_nothing_held(&self) -> Result<(), CloseReason> {
        match &self.door {
            Some(door) if !door.held.is_empty() => Err(CloseReason::local(
                CloseCode::PROTOCOL,
                "something follows a HELLO that asks to resume, before WELCOME",
            )),
            _ => Ok(()),
        }
    }

    /// The transport is gone, and with it what was asked there. Whoever comes back is asked again, and
    /// sends again what was not executed.
    pub(super) fn leave_door(&mut self) {
        if let Some(door) = &mut self.door {
            door.forget_question();
            door.held = VecDeque::new();
            door.expires = None;
        }
    }
}

impl Door {
    pub(super) fn forget_question(&mut self) {
        let question = self.question.take();
        // A panic in its destructor is one of the same future, which may be in any state.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(question)));
    }
}

/// An identity is one of somebody, and of now.
fn sound(identity: Option<Identity>) -> Result<Option<Identity>, AuthError> {
    match identity {
        Some(identity) if !identity.is_valid() => Err(AuthError::refused()),
        identity => Ok(identity),
    }
}

fn closing(error: AuthError) -> CloseReason {
    match error {
        AuthError::Refused(reason) => CloseReason::local(CloseCode::UNAUTHENTICATED, reason),
        AuthError::Unavailable => unavailable(),
    }
}

/// Nobody knows who the dialler is.
fn unavailable() -> CloseReason {
    CloseReason::local(TRY_AGAIN_LATER, AuthError::Unavailable.to_string())
}

/// Nobody says whether a session may begin.
fn not_let_in() -> CloseReason {
    CloseReason::refused(&Status::new(Code::UNAVAILABLE, "cannot be let in now"))
}

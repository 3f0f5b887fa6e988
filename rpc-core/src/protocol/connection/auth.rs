//! Who the dialler is: what it says, and what the acceptor makes of it.

use std::time::Duration;

use super::{Connection, Phase, session::LONGEST};
use crate::protocol::{
    event::{Event, Events, ProtocolError},
    frame::{Head, Side},
    handshake::{self, Terms},
    token::Token,
};

/// What one end knows of who the dialler is. Who that is, is not of the protocol's concern.
#[derive(Debug, Default)]
pub(super) struct Auth {
    /// Acceptor: whether somebody decides who comes in.
    pub(super) is_decided: bool,
    /// Acceptor: whether nobody comes in without being asked who they are.
    pub(super) is_asked_for: bool,
    /// Acceptor: whether an AUTH has come that was not answered.
    pub(super) is_pending: bool,
    /// Dialler: what it says in HELLO.
    pub(super) token: Option<Token>,
    /// For how long the credential is good, as the acceptor says with its next WELCOME, or has said.
    pub(super) expires: Option<Duration>,
}

impl Connection {
    /// Acceptor, before HELLO comes: nobody comes in before that was decided, or, with `is_asked_for`,
    /// without being asked who they are.
    pub(crate) fn wait_for_decision(&mut self, is_asked_for: bool) {
        self.auth.is_decided = true;
        self.auth.is_asked_for = is_asked_for;
    }

    /// Dialler: says this in its next HELLO, which may be the one that has not been sent yet.
    pub(crate) fn present(&mut self, token: Option<Token>) {
        self.auth.token = token;
        if self.phase == Phase::Opening {
            self.outbox.forget_signals();
            self.push_hello(None);
        }
    }

    /// Acceptor: it is known who the dialler is. A session that it wants to go on with is looked for
    /// once the rest of its message was read: nothing may follow its HELLO.
    pub(crate) fn decide(&mut self) {
        self.phase = Phase::Deciding;
    }

    /// Acceptor: for how long the dialler's credential is good, which is said in the next WELCOME.
    pub(crate) fn is_good_for(&mut self, expires: Option<Duration>) {
        self.auth.expires = expires;
    }

    /// Dialler: has a new credential.
    pub(crate) fn renew(&mut self, token: Token) {
        self.auth.token = Some(token);
        // Otherwise HELLO says it.
        if self.phase == Phase::Open {
            let token = self.auth.token.clone();
            self.push_auth(&Terms {
                token,
                ..Terms::default()
            });
        }
    }

    /// Acceptor: says for how long the credential is good that was sent last.
    pub(crate) fn renewed(&mut self, expires: Option<Duration>) {
        self.auth.is_pending = false;
        self.push_auth(&Terms {
            expires,
            ..Terms::default()
        });
    }

    fn push_auth(&mut self, terms: &Terms) {
        let options = handshake::auth(self.codec, terms);
        let frame = handshake::frame(Head::Auth, &options);
        self.outbox.push_control(&frame);
    }

    /// Dialler: the acceptor says for how long the credential is good.
    pub(super) fn note_expiry(&mut self, expires: Option<Duration>) {
        self.auth.expires = expires.map(|expires| expires.min(LONGEST));
    }

    /// AUTH has come.
    pub(super) fn auth(&mut self, terms: Terms, events: &mut Events) -> Result<(), ProtocolError> {
        let event = match self.side {
            Side::Dialler => {
                self.note_expiry(terms.expires);
                Event::Renewed
            }
            Side::Acceptor if !self.auth.is_asked_for => {
                return Err(ProtocolError::Unexpected(
                    "AUTH, and nobody is asked for it",
                ));
            }
            Side::Acceptor if self.auth.is_pending => {
                return Err(ProtocolError::Unexpected(
                    "another AUTH before the answer to the first",
                ));
            }
            Side::Acceptor => {
                self.auth.is_pending = true;
                Event::Authenticate {
                    token: terms.token,
                    resume: None,
                }
            }
        };
        events.queue.push(event);
        Ok(())
    }

    /// Dialler: for how long its credential is good, as the acceptor has said last. An acceptor that was
    /// told none is not given one because it says that.
    pub(crate) fn credential_expires(&self) -> Option<Duration> {
        self.auth.expires.filter(|_| self.auth.token.is_some())
    }
}

//! What the chat's server and its clients agree on.

use serde::{Deserialize, Serialize};
use wirecall::{Context, Status, Topic};

/// What the server does for clients. Who calls, it knows from their login.
#[wirecall::service]
pub trait Chat {
    /// Enters a room, and leaves the one before. The last lines come first, and then each new one.
    async fn join(&self, cx: &Context, room: &str) -> Result<Topic<Line>, Status>;

    /// Says something in a room. It comes to everyone there, and to whoever said it.
    async fn say(&self, cx: &Context, room: &str, text: &str) -> Result<(), Status>;

    /// Tells one user something.
    async fn tell(&self, cx: &Context, user: &str, text: &str) -> Result<Reached, Status>;

    /// The users who are there, in the order of the alphabet.
    #[rpc(idempotent)]
    async fn who(&self) -> Vec<String>;

    /// The caller begins to type. Of no use later: it is dropped rather than kept.
    #[notify(volatile)]
    async fn typing(&self, cx: &Context, room: &str);
}

/// What clients do for the server.
#[wirecall::service]
pub trait ChatEvents {
    /// Somebody has something to say to this user alone.
    #[notify]
    async fn told(&self, from: &str, text: &str);

    /// Somebody in the room begins to type.
    #[notify(volatile)]
    async fn typing(&self, user: &str);

    /// A user has come, or has left.
    #[notify]
    async fn presence(&self, user: &str, is_online: bool);
}

/// What was said in a room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub from: String,
    pub text: String,
}

/// Whether a user was told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Reached {
    /// It is on its way.
    Now,
    /// Their connection is broken: as soon as they are back, unless they do not come.
    OnceBack,
    /// They are not there, or read so slowly that no more is kept for them.
    No,
}

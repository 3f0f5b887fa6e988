//! What the chat's server and its clients agree on.

use serde::{Deserialize, Serialize};
use wirecall::{Context, RpcError};

/// What the server does for clients.
#[wirecall::service]
pub trait Chat {
    /// Enters a room under a name. Returns who is there.
    async fn join(&self, cx: &Context, room: &str, name: &str) -> Result<Vec<String>, ChatError>;

    /// Says something to everyone in the room, oneself included.
    async fn say(&self, cx: &Context, text: &str) -> Result<(), ChatError>;
}

/// What clients do for the server.
#[wirecall::service]
pub trait ChatEvents {
    /// Somebody in the room said something.
    #[notify]
    async fn line(&self, line: Line);

    /// Somebody came into the room or left it.
    #[notify]
    async fn moved(&self, name: &str, is_here: bool);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub from: String,
    pub text: String,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error, RpcError)]
pub enum ChatError {
    #[error("somebody in the room is called {0} already")]
    #[rpc(code = ALREADY_EXISTS)]
    NameTaken(String),
    #[error("join a room first")]
    #[rpc(code = FAILED_PRECONDITION)]
    NotInARoom,
}

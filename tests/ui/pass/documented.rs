//! A public contract in a crate that is strict with itself.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    unused_results,
    elided_lifetimes_in_paths,
    rust_2018_idioms
)]

use serde::{Deserialize, Serialize};
use wirecall::{Context, RpcError};

/// What can go wrong in a chat.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, RpcError)]
pub enum ChatError {
    /// There is no such room.
    #[error("no room {0:?}")]
    #[rpc(code = NOT_FOUND)]
    NoRoom(String),
}

/// A chat.
#[wirecall::service]
pub trait Chat {
    /// Posts a line and returns its number.
    async fn post(&self, cx: &Context, room: &str, text: &str) -> Result<u64, ChatError>;

    /// The lines with one of these words.
    #[rpc(name = "search.v2", spawn)]
    async fn search(&self, words: &[String], limit: Option<u32>) -> Vec<String>;

    /// Somebody was kicked.
    #[notify]
    async fn kicked(&self, room: &str, why: &str);
}

/// Implements it.
#[derive(Debug)]
pub struct Lobby;

impl Chat for Lobby {
    async fn post(&self, _cx: &Context, room: &str, text: &str) -> Result<u64, ChatError> {
        tokio::task::yield_now().await;
        match room {
            "lobby" => Ok(text.len() as u64),
            _ => Err(ChatError::NoRoom(room.to_owned())),
        }
    }

    async fn search(&self, words: &[String], limit: Option<u32>) -> Vec<String> {
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        words.iter().take(limit).cloned().collect()
    }

    async fn kicked(&self, _room: &str, _why: &str) {}
}

fn main() {
    let server = ChatServer::new(Lobby);
    assert_eq!(format!("{server:?}"), r#"ChatServer { name: "Chat", .. }"#);
    assert_eq!(ChatServer::<Lobby>::NAME, "Chat");
    assert_eq!(ChatClient::NAME, "Chat");
}

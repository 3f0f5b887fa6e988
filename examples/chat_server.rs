//! A chat server: `cargo run --example chat_server [ADDRESS]`, then some `chat_client`s.

#[path = "chat/contract.rs"]
mod contract;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::{Chat, ChatError, ChatEventsNotifier, ChatServer, Line};
use wirecall::{Context, Limits, Peer, Server};

#[derive(Clone, Default)]
struct Rooms(Arc<Mutex<HashMap<String, Vec<Member>>>>);

#[derive(Clone)]
struct Member {
    name: String,
    peer: Peer,
}

impl AsRef<Peer> for Member {
    fn as_ref(&self) -> &Peer {
        &self.peer
    }
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Member>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, room: &str, name: &str, peer: &Peer) -> Result<Vec<Member>, ChatError> {
        let mut rooms = self.lock();
        let members = rooms.entry(room.to_owned()).or_default();
        if members.iter().any(|member| member.name == name) {
            return Err(ChatError::NameTaken(name.to_owned()));
        }
        members.push(Member {
            name: name.to_owned(),
            peer: peer.clone(),
        });
        Ok(members.clone())
    }

    /// The name under which a peer is in a room, and everyone who is there.
    fn of(&self, peer: &Peer) -> Option<(String, Vec<Member>)> {
        self.lock().values().find_map(|members| {
            let member = members.iter().find(|member| member.peer == *peer)?;
            Some((member.name.clone(), members.clone()))
        })
    }

    /// Takes a peer out of its room, and tells the others.
    async fn leave(&self, peer: &Peer) {
        let Some((name, members)) = self.of(peer) else {
            return;
        };
        self.lock().retain(|_, members| {
            members.retain(|member| member.peer != *peer);
            !members.is_empty()
        });
        let others = members.iter().filter(|member| member.peer != *peer);
        let _ = ChatEventsNotifier::to(others).moved(&name, false).await;
    }
}

impl Chat for Rooms {
    async fn join(&self, cx: &Context, room: &str, name: &str) -> Result<Vec<String>, ChatError> {
        self.leave(cx.peer()).await;
        let members = self.enter(room, name, cx.peer())?;
        let rooms = self.clone();
        let peer = cx.peer().clone();
        tokio::spawn(async move {
            peer.closed().await;
            rooms.leave(&peer).await;
        });
        let _ = ChatEventsNotifier::to(&members).moved(name, true).await;
        println!("{name} joins {room}");
        Ok(members.into_iter().map(|member| member.name).collect())
    }

    async fn say(&self, cx: &Context, text: &str) -> Result<(), ChatError> {
        let (from, members) = self.of(cx.peer()).ok_or(ChatError::NotInARoom)?;
        let text = text.to_owned();
        // Encoded once, whoever is in the room.
        let _ = ChatEventsNotifier::to(&members)
            .line(Line { from, text })
            .await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let server = Server::builder()
        .service(ChatServer::new(Rooms::default()))
        // Who is gone without a goodbye leaves the room after this time.
        .limits(Limits::default().resume_window(Duration::from_secs(10)))
        .bind(address.as_deref().unwrap_or("127.0.0.1:9000"))
        .await?;
    println!("listening on ws://{}", server.local_addr()?);
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    server.run_until(interrupted).await;
    Ok(())
}

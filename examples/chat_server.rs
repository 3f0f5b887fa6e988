//! A chat server: `cargo run --example chat_server [ADDRESS]`, then some `chat_client`s.
//!
//! Rooms are topics with a history. Private messages, presence and "typing…" are notifications.
//! Ctrl-C lets it leave: its clients go on at the next server, if there is one.

#[path = "chat/contract.rs"]
mod contract;
#[path = "chat/login.rs"]
mod login;

use std::time::Duration;

use contract::{Chat, ChatEventsNotifier, ChatServer, Line, Reached};
use futures::StreamExt as _;
use login::{Names, is_name};
use tokio::signal::ctrl_c;
use wirecall::{
    CloseReason, Code, Context, Drain, Hub, Limits, Peer, PresenceEvents, Server, ServerHandle,
    SessionHooks, Status, Topic, TopicPressure, TopicSettings, async_trait,
};

struct House {
    hub: Hub,
}

impl Chat for House {
    async fn join(&self, cx: &Context, room: &str) -> Result<Topic<Line>, Status> {
        let topic = self.room(room)?;
        // The group of those who are told who is typing. A client whose session was lost subscribes
        // again by itself, which calls this, and so it is in the group again.
        for before in self.hub.groups_of(cx) {
            self.hub.leave(cx, &before);
        }
        self.hub.join(cx, room)?;
        Ok(topic.last(20))
    }

    async fn say(&self, cx: &Context, room: &str, text: &str) -> Result<(), Status> {
        let line = Line {
            from: user(cx),
            text: printable(text)?.to_owned(),
        };
        self.room(room)?.publish(&line)?;
        Ok(())
    }

    async fn tell(&self, cx: &Context, to: &str, text: &str) -> Result<Reached, Status> {
        let devices = ChatEventsNotifier::to(self.hub.user(to));
        let delivery = devices.told(&user(cx), printable(text)?).await?;
        Ok(if delivery.sent > 0 {
            Reached::Now
        } else if delivery.suspended > 0 {
            Reached::OnceBack
        } else {
            // A real one keeps it, or wakes their phone.
            Reached::No
        })
    }

    async fn who(&self) -> Vec<String> {
        let users = self.hub.users();
        let mut names: Vec<_> = users.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    async fn typing(&self, cx: &Context, room: &str) {
        let others = ChatEventsNotifier::to(self.hub.group(room).except(cx));
        let _ = others.typing(&user(cx)).await;
    }
}

impl House {
    fn room(&self, name: &str) -> Result<Topic<Line>, Status> {
        if !is_name(name) {
            let rule = "a room's name has 1 to 32 letters and digits";
            return Err(Status::new(Code::INVALID_ARGUMENT, rule));
        }
        Ok(self.hub.topic(&format!("room.{name}")))
    }
}

/// Who it is. With an authenticator everybody is somebody.
fn user(peer: impl AsRef<Peer>) -> String {
    let identity = peer.as_ref().identity();
    identity.map_or_else(String::new, |identity| identity.user().to_owned())
}

/// What others see in their terminals may not control these.
fn printable(text: &str) -> Result<&str, Status> {
    if text.len() > 2000 || text.chars().any(char::is_control) {
        let rule = "a line has 2000 bytes at the most, and no control characters";
        return Err(Status::new(Code::INVALID_ARGUMENT, rule));
    }
    Ok(text)
}

/// Tells everyone who comes and who leaves.
async fn announce(mut changes: PresenceEvents, hub: Hub) {
    while let Some(change) = changes.next().await {
        // If this task is far behind, some are left out. Clients ask `who` for all.
        let Ok(change) = change else { continue };
        let everyone = ChatEventsNotifier::to(hub.all());
        let _ = everyone.presence(&change.user, change.is_online).await;
    }
}

/// Says in the server's terminal what becomes of sessions.
struct Journal;

#[async_trait]
impl SessionHooks for Journal {
    async fn suspended(&self, session: &Peer) {
        println!("{} is away", user(session));
    }

    async fn resumed(&self, session: &Peer) {
        println!("{} is back", user(session));
    }

    async fn ended(&self, session: &Peer, reason: &CloseReason) {
        println!("{} has left: {reason}", user(session));
    }
}

async fn leave_on_ctrl_c(server: ServerHandle) {
    let _ = ctrl_c().await;
    println!("leaving");
    tokio::select! {
        drained = server.drain(Drain::within(Duration::from_secs(5))) => println!("{drained:?}"),
        // A second time: at once.
        _ = ctrl_c() => server.stop(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let hub = Hub::new();
    // Whoever is away for less than these has missed nothing.
    let rooms = TopicSettings::<Line>::default()
        .history_items(200)
        .pressure(TopicPressure::CatchUp);
    hub.declare_topics("room.", rooms);
    let server = Server::builder()
        .service(ChatServer::new(House { hub: hub.clone() }))
        .authenticator(Names::default())
        .hub(&hub)
        .hooks(Journal)
        // Who is gone without a goodbye has left after this time.
        .limits(Limits::default().resume_window(Duration::from_secs(10)))
        .bind(address.as_deref().unwrap_or("127.0.0.1:9000"))
        .await?;
    println!("listening on {}", server.local_addr()?);
    tokio::spawn(announce(hub.presence(), hub));
    let handle = server.handle();
    tokio::join!(server.run(), leave_on_ctrl_c(handle));
    Ok(())
}

//! A chat in the terminal: `cargo run --example chat_client ADDRESS NAME [PASSWORD]`.
//!
//! What is typed is said in the room; commands begin with a slash. The client connects again by
//! itself, and its subscription to the room goes on where it was.

#[path = "chat/contract.rs"]
mod contract;

use std::error::Error;

use contract::{ChatClient, ChatEvents, ChatEventsServer, Line, Reached};
use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, stdin},
    signal::ctrl_c,
    task::JoinSet,
};
use wirecall::{Client, ClientState, Status, Subscription, Update};

const HELP: &str = "* /join ROOM, /msg NAME TEXT, /who, /typing, /quit";

/// What the server has to say by itself.
struct Screen {
    name: String,
}

impl ChatEvents for Screen {
    async fn told(&self, from: &str, text: &str) {
        println!("[{from}] {text}");
    }

    async fn typing(&self, user: &str) {
        println!("* {user} is typing…");
    }

    async fn presence(&self, user: &str, is_online: bool) {
        if user != self.name {
            println!("* {user} {}", if is_online { "came" } else { "left" });
        }
    }
}

/// What the user has to say.
struct Keyboard {
    chat: ChatClient,
    room: String,
    /// What prints the room's lines.
    reading: JoinSet<()>,
}

impl Keyboard {
    /// One command after the other, until `/quit` or the end of the input. Without a connection a command
    /// waits, and those behind it: only Ctrl-C does not.
    async fn run(&mut self) -> Result<(), Box<dyn Error>> {
        self.join("lobby").await?;
        let mut lines = BufReader::new(stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            if line == "/quit" {
                break;
            }
            // A call that fails is no reason to leave.
            if let Err(error) = self.obey(&line).await {
                println!("! {error}");
            }
        }
        Ok(())
    }

    async fn obey(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "/join" => self.join(rest).await?,
            "/msg" => {
                let (name, text) = rest.split_once(' ').ok_or(HELP)?;
                match self.chat.tell(name, text).await? {
                    Reached::Now => println!("* told {name}"),
                    Reached::OnceBack => println!("* {name} is away, and is told when back"),
                    Reached::No => println!("* {name} is not there"),
                }
            }
            "/who" => println!("* here: {}", self.chat.who().await?.join(", ")),
            "/typing" => self.chat.typing(&self.room).await?,
            _ if command.starts_with('/') => println!("{HELP}"),
            _ => self.chat.say(&self.room, line).await?,
        }
        Ok(())
    }

    async fn join(&mut self, room: &str) -> Result<(), Box<dyn Error>> {
        let lines = self.chat.join(room).await?;
        // With its task the subscription to the room before is dropped, which ends it.
        self.reading.shutdown().await;
        room.clone_into(&mut self.room);
        println!("* in {room}");
        self.reading.spawn(read(lines));
        Ok(())
    }
}

async fn read(mut lines: Subscription<Line, Status>) {
    while let Some(update) = lines.next().await {
        match update {
            Ok(Update::Item { value, .. }) => println!("{}: {}", value.from, value.text),
            Ok(Update::Recovered) => println!("* nothing was missed"),
            Ok(Update::Gap { missed: Some(n) }) => println!("* {n} lines are missing here"),
            Ok(Update::Gap { missed: None }) => println!("* some lines may be missing here"),
            Err(error) => println!("! {error}"),
        }
    }
}

/// Says when the connection is lost, and when there is one again.
async fn watch(mut states: impl Stream<Item = ClientState> + Unpin) {
    let mut is_away = false;
    while let Some(state) = states.next().await {
        match state {
            ClientState::Ready { .. } if is_away => {
                println!("* back");
                is_away = false;
            }
            ClientState::Suspended | ClientState::Connecting { .. } if !is_away => {
                println!("* away: what you say waits");
                is_away = true;
            }
            _ => {}
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: chat_client ADDRESS NAME [PASSWORD]".into());
    };
    let password = arguments.next().unwrap_or_default();
    let client = Client::builder(format!("ws://{address}"))
        .token(format!("{name}:{password}"))
        .serve(ChatEventsServer::new(Screen { name }))
        .connect()
        .await?;
    tokio::spawn(watch(client.states()));

    let mut keyboard = Keyboard {
        chat: ChatClient::new(&client),
        room: String::new(),
        reading: JoinSet::new(),
    };
    tokio::select! {
        ended = keyboard.run() => ended?,
        _ = ctrl_c() => {}
        reason = client.closed() => return Err(reason.to_string().into()),
    }
    // It would be told that the room is closed.
    keyboard.reading.shutdown().await;
    // Without a goodbye the others would learn of it only when the server does not wait for the
    // connection to come back any longer.
    client.close().await;
    Ok(())
}

#[tokio::main]
async fn main() {
    let ended = run().await;
    if let Err(error) = &ended {
        eprintln!("chat_client: {error}");
    }
    // The runtime would wait for the line that is being read.
    std::process::exit(i32::from(ended.is_err()));
}

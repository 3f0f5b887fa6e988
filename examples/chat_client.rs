//! A chat in the terminal: `cargo run --example chat_client NAME [ROOM] [URL]`.
//!
//! Each line that is typed goes to everyone in the room; what others type appears as it comes.

#[path = "chat/contract.rs"]
mod contract;

use contract::{ChatClient, ChatEvents, ChatEventsServer, Line};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use wirecall::Client;

struct Terminal {
    name: String,
}

impl ChatEvents for Terminal {
    async fn line(&self, line: Line) {
        if line.from != self.name {
            println!("{}: {}", line.from, line.text);
        }
    }

    async fn moved(&self, name: &str, is_here: bool) {
        if name != self.name {
            println!("* {name} {}", if is_here { "joins" } else { "leaves" });
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        return Err("usage: chat_client NAME [ROOM] [URL]".into());
    };
    let room = arguments.next().unwrap_or_else(|| "lobby".to_owned());
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:9000".to_owned());

    let terminal = Terminal { name: name.clone() };
    let client = Client::builder(url)
        .serve(ChatEventsServer::new(terminal))
        .connect()
        .await?;
    let chat = ChatClient::new(&client);
    let members = chat.join(&room, &name).await?;
    println!("* in {room}: {}", members.join(", "));

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(text) => chat.say(&text).await?,
                None => break,
            },
            // Without a goodbye the others would see this one leave only when the server does not
            // wait for its connection to come back any longer.
            _ = tokio::signal::ctrl_c() => break,
            reason = client.closed() => return Err(reason.to_string().into()),
        }
    }
    client.close().await;
    // The runtime would wait for the line that is being read.
    std::process::exit(0)
}

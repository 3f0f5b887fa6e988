//! A server for trying out clients in other languages:
//! `cargo run --example interop_server -- --listen 127.0.0.1:9000`.
//!
//! With `--raw-echo` it echoes the messages of a plain WebSocket instead, over the same WebSocket
//! stack, for conformance suites.

#[path = "interop/contract.rs"]
mod contract;
#[path = "interop/hub.rs"]
mod hub;
#[path = "interop/raw_echo.rs"]
mod raw_echo;

use contract::{Implementation, InteropServer};
use tokio::net::TcpListener;
use wirecall::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut address = "127.0.0.1:9000".to_owned();
    let mut is_raw = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--listen" => address = arguments.next().ok_or("--listen needs an address")?,
            "--raw-echo" => is_raw = true,
            _ => return Err("usage: interop_server [--listen ADDRESS] [--raw-echo]".into()),
        }
    }
    let listener = TcpListener::bind(&address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    if is_raw {
        raw_echo::serve(listener).await;
        return Ok(());
    }
    let server = Server::builder().service(InteropServer::new(Implementation));
    let server = hub::with_hub(server).build()?.and_listen(listener);
    server.run().await;
    Ok(())
}

//! One connection: the two sockets that it is made of, from its acceptance to its end.

use std::io;

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch};

use super::{
    Direction,
    pump::Pump,
    reset,
    state::{Fate, State},
};

pub(super) async fn run(number: u64, mut client: TcpStream, state: watch::Sender<State>) {
    let mut server = None;
    let end = tokio::select! {
        biased;
        end = told_to_end(number, &state) => Some(end),
        carried = carry(number, &mut client, &mut server, &state) => {
            // A socket that has failed was reset by its other end, and this is passed on like a FIN.
            carried.is_err().then_some(Fate::Reset)
        }
    };
    state.send_if_modified(|state| {
        state.remove(number);
        false
    });
    match end {
        Some(Fate::Reset) => {
            reset(&client);
            server.iter().for_each(reset);
        }
        Some(_) => {
            let server = async {
                if let Some(server) = server {
                    close(server).await;
                }
            };
            tokio::join!(close(client), server);
        }
        None => {}
    }
}

/// Waits until the connection has to be cut or reset.
async fn told_to_end(number: u64, state: &watch::Sender<State>) -> Fate {
    let mut changes = state.subscribe();
    loop {
        let end = changes.borrow_and_update().end(number);
        if let Some(end) = end {
            return end;
        }
        // It cannot fail, since there is a sender.
        let _ = changes.changed().await;
    }
}

/// Forwards in both directions until both ends have said that nothing more comes.
async fn carry(
    number: u64,
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    state: &watch::Sender<State>,
) -> io::Result<()> {
    let reaches = |state: &State| {
        state.forwards(number, Direction::ToServer) || state.forwards(number, Direction::ToClient)
    };
    let _ = state.subscribe().wait_for(reaches).await;
    let upstream = state.borrow().upstream;
    let server = server.insert(TcpStream::connect(upstream).await?);
    // What was written by itself is to go by itself.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = Pump::new(number, Direction::ToServer, from_client, to_server, state);
    let down = Pump::new(number, Direction::ToClient, from_server, to_client, state);
    tokio::try_join!(up.run(), down.run())?;
    Ok(())
}

/// Closes a socket with a FIN.
async fn close(mut socket: TcpStream) {
    let _ = socket.shutdown().await;
    // If it were dropped while anything is left to be read, a RST would follow.
    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
}

//! A server that can end without a word, as a process does that is killed.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    time::sleep,
};
use wirecall::{ServerBuilder, ServerHandle};

use crate::support::soon;

/// A server with a runtime of its own.
pub struct Process {
    pub address: SocketAddr,
    pub handle: ServerHandle,
    runtime: Option<Runtime>,
}

impl Process {
    /// Starts one on a free port.
    pub async fn start(builder: ServerBuilder) -> Process {
        Process::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), builder).await
    }

    /// Starts one in the place of another that has just ended.
    pub async fn start_at(address: SocketAddr, builder: ServerBuilder) -> Process {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = builder.build().unwrap();
        let handle = server.handle();
        let listening = runtime.spawn(async move {
            loop {
                // The port may take a moment to be free.
                if let Ok(listener) = TcpListener::bind(address).await {
                    return server.and_listen(listener);
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        let server = soon(listening).await.unwrap();
        let address = server.local_addr().unwrap();
        runtime.spawn(server.run());
        Process {
            address,
            handle,
            runtime: Some(runtime),
        }
    }

    /// Ends it: its sockets are closed, and nobody is told why.
    pub fn kill(self) {}
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

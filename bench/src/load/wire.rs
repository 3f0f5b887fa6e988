//! Bytes on the wire, counted by a proxy. It slows calls down, so nothing else is measured then.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Run, calls::Load};
use crate::{
    measure::{Metric, Tally, Tasks},
    peers::Peer,
};

const WARM_UP: Duration = Duration::from_millis(100);
const WINDOW: Duration = Duration::from_millis(300);

/// Bytes of TCP payload per call in each direction, after what opening the connection takes.
pub(super) async fn bytes_per_call<P: Peer>(run: &Run, load: impl Load<P>) -> Result<[Metric; 2]> {
    let proxy = Proxy::start(run.address).await?;
    let mut tasks = Tasks::default();
    let connection = P::connect(proxy.address).await?;
    load.start(&connection, run.scenario.in_flight, None, &mut tasks);
    tasks.go_on_for(WARM_UP).await?;
    let (up, down, calls) = (proxy.up.get(), proxy.down.get(), tasks.sum());
    tasks.go_on_for(WINDOW).await?;
    let (up, down, calls) = (
        proxy.up.get() - up,
        proxy.down.get() - down,
        tasks.sum() - calls,
    );
    ensure!(calls > 0, "no call came through the proxy");
    tasks.stop().await;
    Ok([
        Metric::new("bytes_up", up as f64 / calls as f64),
        Metric::new("bytes_down", down as f64 / calls as f64),
    ])
}

/// Stands between one client and the server.
struct Proxy {
    address: SocketAddr,
    up: Arc<Tally>,
    down: Arc<Tally>,
    /// Ends with the proxy.
    _forwarding: JoinSet<Result<()>>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (up, down) = <(Arc<Tally>, Arc<Tally>)>::default();
        let mut forwarding = JoinSet::new();
        let (counts_up, counts_down) = (up.clone(), down.clone());
        forwarding.spawn(async move {
            let (client, _) = listener.accept().await?;
            let server = TcpStream::connect(server).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::try_join!(
                forward(from_client, to_server, &counts_up),
                forward(from_server, to_client, &counts_down),
            )?;
            Ok(())
        });
        Ok(Proxy {
            address,
            up,
            down,
            _forwarding: forwarding,
        })
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    tally: &Tally,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..bytes]).await?;
        tally.add(bytes as u64);
    }
}

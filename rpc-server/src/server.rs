//! The server: what it is made of, where it listens, and how it ends.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::Semaphore,
};
use wirecall_core::{
    Codec, ConnectionInfo, DuplicateService, KeptResults, Limits, Router, Service,
    transport::memory::{self, MemoryEndpoint, MemoryListener},
};

use crate::{
    access::Access,
    auth::Authenticator,
    connections::Connections,
    drain::ServerHandle,
    entrance::{Entrance, Newcomer},
    hooks::SessionHooks,
    http::{self, Accepted},
    hub::Hub,
    negotiation::Offer,
    proxies::{Proxies, ProxyHeader},
};

/// What is said to a client that comes when the server is full.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    content-length: 21\r\n\r\ntoo many connections\n";

/// What is said to a client when too many of its address have not said who they are.
const CROWDED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\
    content-length: 37\r\n\r\ntoo many connections of this address\n";

/// Puts a [`Server`] together.
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder {
    services: Vec<Arc<dyn Service>>,
    limits: Limits,
    results: KeptResults,
    offer: Offer,
    entrance: Entrance,
    hub: Hub,
    hooks: Option<Arc<dyn SessionHooks>>,
    trusted_proxies: Vec<String>,
    proxy_header: ProxyHeader,
    max_connections: usize,
}

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two services have the same name.
    #[error(transparent)]
    DuplicateService(#[from] DuplicateService),
    /// No codec is on offer, so that no client could connect.
    #[error("no codec is on offer")]
    NoCodec,
    /// Cookies let clients in, and no origin is named whose pages may connect: a browser would send
    /// its user's cookies along for any page.
    #[error("cookies let clients in, and `allow_origin` names no page that may connect")]
    CookiesWithoutOrigins,
    /// Cookies let clients in, and there is no authenticator to look at them.
    #[error("cookies let clients in, and there is no authenticator to look at them")]
    CookiesWithoutAuthenticator,
    /// A trusted proxy is neither an address nor a network.
    #[error("trusted proxy {0:?} is neither an address nor a network")]
    TrustedProxy(String),
    /// The address cannot be listened on.
    #[error("cannot listen: {0}")]
    Bind(#[source] io::Error),
}

impl ServerBuilder {
    /// Offers a service to clients.
    pub fn service(mut self, service: impl Service) -> Self {
        self.services.push(Arc::new(service));
        self
    }

    /// What each connection may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What is kept of calls with an idempotency key, of all connections together.
    pub fn kept_results(mut self, results: KeptResults) -> Self {
        self.results = results;
        self
    }

    /// The path of the RPC endpoint. `/` by default; a slash at the front may be left out.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.offer.path = format!("/{}", path.trim_start_matches('/'));
        self
    }

    /// The codecs on offer; all by default. The client's order of preference decides.
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.offer.codecs = codecs.into_iter().collect();
        self
    }

    /// Lets pages of this origin connect, `https://app.example`, beside those of the server's own
    /// host. Compared as a whole.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.offer.access.origins.push(origin.into());
        self
    }

    /// Lets requests for this `Host` in on a loopback listener, `dev.example:9000`, beside those
    /// for `localhost` and loopback addresses. Compared as a whole. Needed behind a proxy on the
    /// same machine that passes its own `Host` on.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.offer.access.hosts.push(host.into());
        self
    }

    /// Lets nobody in of whom this does not say who they are: an [`Authenticator`] of your own, or
    /// [`StaticTokens`](crate::StaticTokens). Handlers find the answer with
    /// [`Context::identity`](wirecall_core::Context::identity).
    ///
    /// A client says who it is in its first frame, as `ClientBuilder::token` does, in the header
    /// `Authorization: Bearer …`, or in the subprotocol `wirecall.bearer.…`; for cookies see
    /// [`ServerBuilder::cookie_auth`]. One without a valid credential is closed with 4100. What stands in
    /// the upgrade request is looked at before the upgrade, which is answered with 401 if it is not
    /// valid.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.entrance.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Takes the cookie of this name for a credential. Browsers send cookies along for every page: name
    /// the origins whose pages may connect with [`ServerBuilder::allow_origin`], without which the
    /// server is not built. An authenticator sees no other cookies.
    pub fn cookie_auth(mut self, name: impl Into<String>) -> Self {
        self.entrance.cookie = Some(name.into());
        self
    }

    /// How many connections of one address may not have come in yet, plain HTTP included, where there
    /// is an authenticator. 100 by default; what comes beyond is answered with 429. A network of 64
    /// bits counts as one address of IPv6, and this machine's own addresses do not count.
    pub fn max_unauthenticated(mut self, max_unauthenticated: usize) -> Self {
        self.entrance.max_unauthenticated = max_unauthenticated;
        self
    }

    /// Believes proxies at these addresses, or in these networks, whom they have a connection from:
    /// `["10.0.0.0/8", "2001:db8::1"]`. They say it in `X-Forwarded-For`, unless
    /// [`ServerBuilder::proxy_header`] names another header. The last there who is no trusted proxy is
    /// the client, for all limits of one address and in
    /// [`ConnectionInfo::client_addr`](wirecall_core::ConnectionInfo::client_addr). Nobody else is
    /// believed. The proxies themselves do not count as clients that have not come in.
    ///
    /// Name those only that write the header whatever their own client has sent in it.
    pub fn trusted_proxies<P: Into<String>>(
        mut self,
        proxies: impl IntoIterator<Item = P>,
    ) -> Self {
        let proxies = proxies.into_iter().map(Into::into);
        self.trusted_proxies.extend(proxies);
        self
    }

    /// The header that [`ServerBuilder::trusted_proxies`] write. There is one, since proxies pass the
    /// other one on as their clients have sent it.
    pub fn proxy_header(mut self, header: ProxyHeader) -> Self {
        self.proxy_header = header;
        self
    }

    /// Has this hub know the sessions: for a service that keeps a clone of it. Several servers may have
    /// the same one. A server that is given none has its own, see [`Server::hub`].
    pub fn hub(mut self, hub: &Hub) -> Self {
        self.hub = hub.clone();
        self
    }

    /// Has these called when sessions begin, break, go on and end. They may refuse sessions. There is one
    /// set of them; the last one counts.
    pub fn hooks(mut self, hooks: impl SessionHooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// How many connections there may be at a time, plain HTTP included. 10,000 by default. What
    /// comes beyond is answered with 503. A connection that is no WebSocket after a minute ends.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections.min(Semaphore::MAX_PERMITS);
        self
    }

    /// A server that listens at this address. Port 0 takes a free one; see
    /// [`Server::local_addr`].
    ///
    /// # Errors
    /// [`BuildError`]: two services of one name, no codec, cookies without what they need, a trusted
    /// proxy that is no address, an address that cannot be listened on.
    pub async fn bind(self, address: impl ToSocketAddrs) -> Result<Server, BuildError> {
        self.build()?.and_bind(address).await
    }

    /// A server that listens nowhere yet: for [`Server::in_memory`], or for listeners of one's own.
    ///
    /// # Errors
    /// [`BuildError`], all but [`BuildError::Bind`].
    pub fn build(mut self) -> Result<Server, BuildError> {
        if self.offer.codecs.is_empty() {
            return Err(BuildError::NoCodec);
        }
        if self.entrance.cookie.is_some() {
            if self.entrance.authenticator.is_none() {
                return Err(BuildError::CookiesWithoutAuthenticator);
            }
            if self.offer.access.origins.is_empty() {
                return Err(BuildError::CookiesWithoutOrigins);
            }
        }
        self.entrance.proxies = Proxies::new(&self.trusted_proxies, self.proxy_header)
            .map_err(BuildError::TrustedProxy)?;
        let mut router = Router::default();
        router.keep_results(self.results);
        for service in self.services {
            router.add(service)?;
        }
        let (memory_listener, memory_endpoint) = memory::listen();
        Ok(Server {
            listeners: Vec::new(),
            memory_listener,
            memory_endpoint,
            connections: Arc::new(Connections::new(
                router,
                self.limits,
                self.offer,
                self.entrance,
                self.hub,
                self.hooks,
                self.max_connections,
            )),
        })
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services: Vec<_> = self.services.iter().map(|service| service.name()).collect();
        f.debug_struct("ServerBuilder")
            .field("services", &services)
            .field("limits", &self.limits)
            .field("results", &self.results)
            .field("offer", &self.offer)
            .field("entrance", &self.entrance)
            .finish_non_exhaustive()
    }
}

/// A server: its services, and the addresses it listens at. It accepts connections while
/// [`Server::run`] or [`Server::run_until`] runs.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    memory_listener: MemoryListener,
    memory_endpoint: MemoryEndpoint,
    connections: Arc<Connections>,
}

impl Server {
    /// Begins with no services, the default [`Limits`], and the endpoint at `/`.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            services: Vec::new(),
            limits: Limits::default(),
            results: KeptResults::default(),
            offer: Offer {
                path: "/".to_owned(),
                codecs: Codec::ALL.to_vec(),
                access: Access::default(),
            },
            entrance: Entrance {
                authenticator: None,
                cookie: None,
                max_unauthenticated: 100,
                proxies: Proxies::default(),
            },
            hub: Hub::new(),
            hooks: None,
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
            max_connections: 10_000,
        }
    }

    /// Listens at another address as well.
    ///
    /// # Errors
    /// [`BuildError::Bind`].
    pub async fn and_bind(self, address: impl ToSocketAddrs) -> Result<Self, BuildError> {
        let listener = TcpListener::bind(address).await.map_err(BuildError::Bind)?;
        Ok(self.and_listen(listener))
    }

    /// Takes a listener that was made elsewhere as well.
    #[must_use]
    pub fn and_listen(mut self, listener: TcpListener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Where the first listener listens.
    ///
    /// # Errors
    /// When there is no listener, or the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listeners
            .first()
            .ok_or(io::Error::from(io::ErrorKind::NotConnected))?
            .local_addr()
    }

    /// Where the listeners listen, in the order in which they were added.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// An endpoint within the process, for tests: clients that are given it connect without a
    /// socket, to the same engine.
    #[must_use]
    pub fn in_memory(&self) -> MemoryEndpoint {
        self.memory_endpoint.clone()
    }

    /// What stops the server from elsewhere, or lets it leave without losing anything.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            connections: self.connections.clone(),
        }
    }

    /// Who is there, and how to reach them.
    #[must_use]
    pub fn hub(&self) -> Hub {
        self.connections.hub.clone()
    }

    /// Accepts connections until the future is dropped; then those that are open go on, on their
    /// own, and no new ones are accepted.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    /// Accepts connections until `shutdown` is ready. Then closes those that are open with 1001,
    /// which fails the calls that are in flight on them, and returns when they have ended: about
    /// two seconds later where a client does not answer the Close, or reads no HTTP answer. It waits for
    /// [`SessionHooks`], too. Handlers of calls with an idempotency key go on, and are not waited for.
    ///
    /// Dropping the future is like the end of [`Server::run`].
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, self.connections.clone()));
        }
        accepting.spawn(accept_in_memory(
            self.memory_listener,
            self.connections.clone(),
        ));
        tokio::select! {
            () = shutdown => {}
            // A handle has stopped it, or has let it leave.
            () = self.connections.shutdown.cancelled() => {}
        }
        accepting.shutdown().await;
        self.connections.close_all().await;
    }
}

async fn accept(listener: TcpListener, connections: Arc<Connections>) {
    loop {
        let (stream, peer_addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            // Out of descriptors or memory: the backlog waits until some are free again.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = connections.places.clone().try_acquire_owned() else {
            turn_away(&stream, FULL);
            continue;
        };
        let Ok(outside) = connections.wait_outside(peer_addr.ip()) else {
            turn_away(&stream, CROWDED);
            continue;
        };
        let Ok(local_addr) = stream.local_addr() else {
            continue;
        };
        let accepted = Accepted {
            stream,
            peer_addr,
            local_addr,
            place,
            outside,
        };
        let http = http::serve(accepted, connections.clone());
        connections.tasks.spawn(http);
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Says why, as far as that goes without waiting.
fn turn_away(stream: &TcpStream, answer: &[u8]) {
    let _ = stream.try_write(answer);
}

async fn accept_in_memory(mut listener: MemoryListener, connections: Arc<Connections>) {
    while let Some(transport) = listener.accept().await {
        let info = ConnectionInfo::default();
        let connection = connections.clone();
        let newcomer = Newcomer {
            may_only_resume: connections.not_ready.is_cancelled(),
            ..Newcomer::default()
        };
        connection.run(transport, Codec::MessagePack, info, newcomer, None);
    }
}

//! The client: how it is made, and what it is once it is connected.

use std::{sync::Arc, time::Duration};

use futures::Stream;
use http::HeaderMap;
use tokio::{
    sync::{Mutex, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use wirecall_core::{
    CloseCode, CloseReason, Codec, ConnectionInfo, DuplicateService, Limits, Peer, Router, Service,
    protocol::Token,
};

use crate::{
    dialler::Dialler,
    endpoint::Endpoint,
    error::ConnectError,
    reconnect::{Attempt, Backoff, Hook, header},
    renewal::TokenSource,
    upkeep::Upkeep,
};

/// Puts a [`Client`] together.
#[must_use = "a builder does nothing until it connects"]
#[derive(Debug)]
pub struct ClientBuilder {
    endpoints: Vec<Endpoint>,
    router: Result<Router, DuplicateService>,
    limits: Limits,
    codecs: Vec<Codec>,
    headers: Result<HeaderMap, String>,
    connect_timeout: Duration,
    backoff: Option<Backoff>,
    fails_fast: bool,
    hook: Option<Hook>,
    token: Option<Token>,
    tokens: Option<TokenSource>,
}

impl ClientBuilder {
    /// Offers a service to the server, which may call it on this connection.
    pub fn serve(mut self, service: impl Service) -> Self {
        self.router = self.router.and_then(|mut router| {
            router.add(Arc::new(service))?;
            Ok(router)
        });
        self
    }

    /// What the connection may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The codecs on offer, the preferred one first. MessagePack, then JSON, by default.
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.codecs = codecs.into_iter().collect();
        self
    }

    /// Sends a header with the upgrade request. Those of the handshake itself cannot be set.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = self.headers.and_then(|mut headers| {
            let (name, value) = header(name, value)?;
            headers.append(name, value);
            Ok(headers)
        });
        self
    }

    /// Another endpoint of the same service. They are tried in turn when one cannot be reached.
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Calls this before each attempt to connect, the first one included: it may set headers or the
    /// token, or send the attempt elsewhere. It counts for the connect timeout; an error of it
    /// is that of the attempt.
    ///
    /// ```no_run
    /// # async fn fetch_token() -> String { String::new() }
    /// # async fn connect() -> Result<(), wirecall_client::ConnectError> {
    /// use wirecall_client::Client;
    ///
    /// let client = Client::builder("ws://127.0.0.1:9000")
    ///     .before_connect(|attempt| async move {
    ///         let token = fetch_token().await;
    ///         Ok(attempt.token(token))
    ///     })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn before_connect<F>(mut self, hook: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Attempt, ConnectError>> + Send + 'static,
    {
        self.hook = Some(Hook::new(hook));
        self
    }

    /// Says who the client is, with each connection: what the server's authenticator wants to see. It
    /// goes in the first frame, stands in no log, and is not printed. For one that runs out see
    /// [`ClientBuilder::refresh_token`].
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// Calls this for a token before each attempt to connect, the first one included, and when most of
    /// the time is over for which the server takes the one in use for good: the new one goes over the
    /// open connection, and calls go on. If it fails then, it is called again until the time is over;
    /// if it fails before an attempt, its error is that of the attempt.
    ///
    /// It goes before [`ClientBuilder::token`], which need not be called, and before
    /// [`ClientBuilder::before_connect`], which sees an attempt with its token. A client without this
    /// whose token runs out is closed with 4101, and connects again: calls in flight fail then.
    ///
    /// ```no_run
    /// # async fn fetch_token() -> String { String::new() }
    /// # async fn connect() -> Result<(), wirecall_client::ConnectError> {
    /// use wirecall_client::Client;
    ///
    /// let client = Client::builder("ws://127.0.0.1:9000")
    ///     .refresh_token(|| async { Ok(fetch_token().await) })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn refresh_token<F>(mut self, source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, ConnectError>> + Send + 'static,
    {
        self.tokens = Some(TokenSource::new(source));
        self
    }

    /// How long to wait between attempts to connect again. With the defaults of [`Backoff`], if this
    /// is not called.
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Lets the client end with its first connection.
    pub fn no_reconnect(mut self) -> Self {
        self.backoff = None;
        self
    }

    /// Lets calls fail at once, with `UNAVAILABLE`, while there is no connection. Otherwise they wait
    /// for the next one, until their deadline.
    pub fn fail_fast(mut self) -> Self {
        self.fails_fast = true;
        self
    }

    /// How long an attempt to connect may take, up to the server's WELCOME. 10 s by default.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Connects. One attempt is made; what happens to the connection later is another matter.
    ///
    /// Cancel safe: dropping the future closes what was opened.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let mut limits = self.limits;
        if self.backoff.is_none() {
            // Nobody comes back.
            limits.replay_bytes = 0;
        }
        let dialler = Dialler {
            endpoints: self.endpoints,
            router: Arc::new(self.router?),
            limits: Arc::new(limits),
            codecs: self.codecs,
            headers: self.headers.map_err(ConnectError::Header)?,
            connect_timeout: self.connect_timeout,
            hook: self.hook,
            token: self.token,
            tokens: self.tokens,
        };
        if dialler.codecs.is_empty() {
            return Err(ConnectError::NoCodec);
        }
        // The tasks in it end with it, if this future is dropped.
        let mut drivers = JoinSet::new();
        let limit = self.connect_timeout;
        let first = Box::pin(dialler.connect(0, 0, None, &mut drivers));
        let (session, codec) = match timeout(limit, first).await {
            Ok(connected) => connected?,
            Err(_) => return Err(ConnectError::Timeout(limit)),
        };
        let (peer, line) = session.line(self.fails_fast || self.backoff.is_none());
        let (sender, state) = watch::channel(ClientState::Ready { session: 1 });
        let upkeep = Upkeep {
            dialler: Arc::new(dialler),
            backoff: self.backoff,
            session,
            codec,
            line,
            state: sender,
            drivers,
            left: Vec::new(),
            info: ConnectionInfo::default(),
            token: None,
            attempts: 0,
            turn: 0,
            elsewhere: None,
            ready_since: Instant::now(),
            number: 1,
        };
        Ok(Client {
            peer,
            state,
            task: Arc::new(Mutex::new(Some(tokio::spawn(upkeep.run())))),
        })
    }
}

/// Whether a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientState {
    /// There is no session. Calls wait for the next one.
    Connecting {
        /// Attempts in vain since the last connection that was stable.
        attempt: u32,
    },
    /// Connected.
    Ready {
        /// The first session of a client is 1. Another number than before says that the server knows
        /// nothing of what was before: what was subscribed to is to be subscribed to again.
        session: u64,
    },
    /// The connection is gone, and the session goes on as soon as there is another one: nothing is
    /// lost, and nothing has failed.
    Suspended,
    /// It is over, for this reason.
    Closed(CloseReason),
}

impl ClientState {
    /// Whether the client is connected.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, ClientState::Ready { .. })
    }
}

/// A connection to a server, made again when it is lost.
///
/// A connection that comes back within the server's resume window goes on where it was: calls and
/// streams never notice. Otherwise the calls of the lost session fail, and each says what is known
/// of its execution (see [`Fate`](wirecall_core::Fate)); those that have certainly not been
/// executed, and those of methods marked `#[rpc(idempotent)]`, are sent again instead.
///
/// A cheap clone. The client ends when it is closed, when the server says that there is no use in
/// another attempt, and when all clones are dropped and nothing is in flight; stubs count as clones.
#[derive(Clone, Debug)]
pub struct Client {
    peer: Peer,
    state: watch::Receiver<ClientState>,
    /// The task that keeps the client connected, which ends after the closing handshake; `None` once
    /// somebody has seen its end. Whoever waits for that holds the lock, and others wait for the
    /// lock.
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Client {
    /// A client for an endpoint: a `ws://` URL, or what `Server::in_memory` returns.
    pub fn builder(endpoint: impl Into<Endpoint>) -> ClientBuilder {
        ClientBuilder {
            endpoints: vec![endpoint.into()],
            router: Ok(Router::default()),
            limits: Limits::default(),
            codecs: Codec::ALL.to_vec(),
            headers: Ok(HeaderMap::new()),
            connect_timeout: Duration::from_secs(10),
            backoff: Some(Backoff::default()),
            fails_fast: false,
            hook: None,
            token: None,
            tokens: None,
        }
    }

    /// Connects with the defaults.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Client, ConnectError> {
        Client::builder(endpoint).connect().await
    }

    /// The server, as stubs see it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the client is connected at the moment.
    #[must_use]
    pub fn state(&self) -> ClientState {
        self.state.borrow().clone()
    }

    /// The state now, and each one that follows. A reader that is slow misses some, and never the
    /// last.
    pub fn states(&self) -> impl Stream<Item = ClientState> + Send + Unpin + use<> {
        let receiver = self.state.clone();
        let states =
            futures::stream::unfold((receiver, true), |(mut receiver, is_first)| async move {
                if !is_first {
                    receiver.changed().await.ok()?;
                }
                let state = receiver.borrow_and_update().clone();
                Some((state, (receiver, false)))
            });
        Box::pin(states)
    }

    /// Waits until the client has ended, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.peer.closed().await
    }

    /// Ends the connection: what was queued is still written, calls that are pending fail with
    /// `UNAVAILABLE`. Returns after the closing handshake, at the latest two seconds after calls
    /// have failed: the process, or the runtime, may end right behind it.
    ///
    /// Cancel safe: once it was polled the connection ends, whether or not it is waited for. It may
    /// be called again, and by several clones.
    pub async fn close(&self) {
        self.peer.close(CloseCode::NORMAL, "");
        let mut task = self.task.lock().await;
        if let Some(handle) = &mut *task {
            // Fails when the runtime was shut down, which ends the connection as well.
            let _ = handle.await;
            *task = None;
        }
    }
}

impl AsRef<Peer> for Client {
    fn as_ref(&self) -> &Peer {
        &self.peer
    }
}

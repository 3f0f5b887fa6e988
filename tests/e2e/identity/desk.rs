//! A service that knows its callers, and authenticators of all kinds.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use wirecall::{
    AuthError, AuthRequest, Authenticator, Context, Identity, Server, ServerBuilder, StaticTokens,
    async_trait,
};

#[wirecall::service]
pub trait Desk {
    async fn whoami(&self, cx: &Context) -> Option<String>;
    async fn tenant(&self, cx: &Context) -> Option<u32>;
    /// What is kept of the upgrade request.
    async fn connection(&self, cx: &Context) -> String;
    /// How often this was executed.
    async fn count(&self) -> u32;
}

#[derive(Default)]
pub struct FrontDesk(AtomicU32);

impl Desk for FrontDesk {
    async fn whoami(&self, cx: &Context) -> Option<String> {
        cx.identity().map(|identity| identity.user().to_owned())
    }

    async fn tenant(&self, cx: &Context) -> Option<u32> {
        cx.identity()?.claims::<Tenant>().map(|tenant| tenant.0)
    }

    async fn connection(&self, cx: &Context) -> String {
        format!("{:?}", cx.connection())
    }

    async fn count(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

pub struct Tenant(u32);

pub fn desk() -> ServerBuilder {
    Server::builder().service(DeskServer::new(FrontDesk::default()))
}

/// A call in JSON.
pub fn request(id: u64, method: &str) -> String {
    format!("[6,{id},\"Desk.{method}\",[]]")
}

/// Four tokens of three users, one of which is good for one connection.
pub fn tokens() -> impl Authenticator {
    let alice = Identity::new("alice").with_claims(Tenant(7));
    let tokens = StaticTokens::new()
        .token("alice's", alice.clone())
        .token("alice's too", alice)
        .token("bob's", Identity::new("bob"));
    let used = AtomicU32::new(0);
    With(tokens, move |token: &str| {
        let is_first = token == "once" && used.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| Identity::new("dave"))
    })
}

struct With<F>(StaticTokens, F);

#[async_trait]
impl<F> Authenticator for With<F>
where
    F: Fn(&str) -> Option<Identity> + Send + Sync + 'static,
{
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        match request.token().and_then(&self.1) {
            Some(identity) => Ok(identity),
            None => self.0.authenticate(request).await,
        }
    }
}

type Answer = Result<Identity, AuthError>;

/// Asks a closure, and keeps what it was asked.
#[derive(Clone)]
pub struct FromCloset {
    answer: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl FromCloset {
    pub fn new(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        FromCloset {
            answer: Arc::new(answer),
            asked: Arc::default(),
        }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Authenticator for FromCloset {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Answer {
        let token = request.token().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(token.clone());
        tokio::task::yield_now().await;
        (self.answer)(&token)
    }
}

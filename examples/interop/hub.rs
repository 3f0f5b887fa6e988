//! What clients try topics, presence, credentials and breaks with: the service, and who may come in.

use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use wirecall::{
    AuthError, AuthRequest, Authenticator, CloseCode, Code, Context, Hub, Identity, Presence,
    ServerBuilder, StaticTokens, Status, Topic, TopicPosition, TopicPressure, TopicSettings,
    async_trait,
};

/// Topics of texts, who is there, and connections that break.
#[wirecall::service]
pub trait InteropHub {
    /// Who the caller is, by its credential.
    async fn whoami(&self, cx: &Context) -> Whoami;

    /// Takes the scope `admin`. Answers with the caller's name.
    #[rpc(scope = "admin")]
    async fn admin(&self, cx: &Context) -> String;

    /// Subscribes to a topic: behind `since`, or otherwise from the `last` so many items on, or with
    /// what comes. A position in the options of the REQUEST counts before both.
    async fn subscribe(
        &self,
        topic: &str,
        last: Option<usize>,
        since: Option<TopicPosition>,
    ) -> Result<Topic<String>, Status>;

    /// Publishes a text to all who are subscribed.
    async fn publish(&self, topic: &str, text: &str) -> Result<Published, Status>;

    /// The place behind the last item of a topic.
    async fn position(&self, topic: &str) -> Result<TopicPosition, Status>;

    /// The users who are there, in the order of their names.
    async fn users(&self) -> Vec<String>;

    /// Users who come and go, from when the stream is accepted on.
    fn presence(&self) -> impl Stream<Item = Change>;

    /// Sends that many volatile `InteropHubEvents.hint`s to the caller, then answers. They may come
    /// before or after the answer, or not at all.
    async fn hint(&self, cx: &Context, count: u64) -> Result<(), Status>;

    /// Drops the connection without a Close. The answer comes over the next one of the session; if
    /// there is none, the session is over, and so is the call.
    async fn interrupt(&self, cx: &Context);

    /// Closes the connection with this code, 1000 or 4000 to 4999, and ends the session. There is no
    /// answer.
    async fn close(&self, cx: &Context, code: u16) -> Result<(), Status>;

    /// Sends GOAWAY with 4200, which asks the caller to begin another session, then answers.
    async fn send_away(&self, cx: &Context);
}

/// What a client of [`InteropHub`] offers to the server.
#[wirecall::service]
pub trait InteropHubEvents {
    /// One of the notifications that `InteropHub.hint` sends, counted from 0.
    #[notify(volatile)]
    async fn hint(&self, index: u64);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Whoami {
    pub user: Option<String>,
    pub scopes: Vec<String>,
    /// For how long the credential is good, from now on; absent: for ever.
    pub expires_in_ms: Option<u64>,
    /// The number of the session: another one says that the one before could not go on.
    pub session: String,
}

/// What became of an item. All but the first are numbers of subscribers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    pub offset: u64,
    pub sent: usize,
    pub waiting: usize,
    pub dropped: usize,
    pub ended: usize,
}

/// What has changed of who is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    Came(String),
    Went(String),
    /// The caller was too slow, and does not know of some changes.
    Missed,
}

/// [`InteropHub`] with the topics and users of a hub.
pub struct HubImplementation(pub Hub);

/// Lets guests in, and has the server serve [`InteropHub`].
pub fn with_hub(server: ServerBuilder) -> ServerBuilder {
    let hub = Hub::new();
    let kept = TopicSettings::<String>::default().history_items(100);
    hub.declare_topics("", kept.clone());
    hub.declare_topics("short.", kept.clone().history_items(3));
    hub.declare_topics("live.", TopicSettings::<String>::default());
    hub.declare_topics(
        "conflated.",
        kept.clone().conflate_by(|text: &String| key(text)),
    );
    let strict = kept.pressure(TopicPressure::Disconnect);
    hub.declare_topics("strict.", strict.queue_items(4));
    server
        .hub(&hub)
        .authenticator(Guests::new())
        .service(InteropHubServer::new(HubImplementation(hub)))
}

/// What a text of a conflated topic is about.
fn key(text: &str) -> String {
    let (key, _) = text.split_once('=').unwrap_or((text, ""));
    key.to_owned()
}

impl InteropHub for HubImplementation {
    async fn whoami(&self, cx: &Context) -> Whoami {
        let identity = cx.identity();
        let identity = identity.as_ref();
        let expires = identity.and_then(Identity::expires);
        let left = expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
        Whoami {
            user: identity.map(|own| own.user().to_owned()),
            scopes: identity
                .map(|own| own.scopes().map(str::to_owned).collect())
                .unwrap_or_default(),
            expires_in_ms: left.map(|left| left.as_millis() as u64),
            session: cx.peer().session_id().to_string(),
        }
    }

    async fn admin(&self, cx: &Context) -> String {
        let identity = cx.identity();
        identity.map_or_else(String::new, |own| own.user().to_owned())
    }

    async fn subscribe(
        &self,
        topic: &str,
        last: Option<usize>,
        since: Option<TopicPosition>,
    ) -> Result<Topic<String>, Status> {
        let topic = self.0.topic(topic);
        Ok(match (since, last) {
            (Some(position), _) => topic.since(position),
            (None, Some(items)) => topic.last(items),
            (None, None) => topic,
        })
    }

    async fn publish(&self, topic: &str, text: &str) -> Result<Published, Status> {
        let published = self.0.topic(topic).publish(&text.to_owned())?;
        Ok(Published {
            offset: published.offset,
            sent: published.sent,
            waiting: published.waiting,
            dropped: published.dropped,
            ended: published.ended,
        })
    }

    async fn position(&self, topic: &str) -> Result<TopicPosition, Status> {
        self.0.topic::<String>(topic).position()
    }

    async fn users(&self) -> Vec<String> {
        let mut users: Vec<_> = self.0.users().iter().map(|user| user.to_string()).collect();
        users.sort();
        users
    }

    fn presence(&self) -> impl Stream<Item = Change> {
        self.0.presence().map(|change| match change {
            Ok(Presence {
                user, is_online, ..
            }) => {
                let change = if is_online {
                    Change::Came
                } else {
                    Change::Went
                };
                change(user.to_string())
            }
            Err(_) => Change::Missed,
        })
    }

    async fn hint(&self, cx: &Context, count: u64) -> Result<(), Status> {
        let events = InteropHubEventsClient::new(cx);
        for index in 0..count {
            events.hint(index).await?;
        }
        Ok(())
    }

    async fn interrupt(&self, cx: &Context) {
        cx.peer().interrupt();
    }

    async fn close(&self, cx: &Context, code: u16) -> Result<(), Status> {
        if code != 1000 && !(4000..5000).contains(&code) {
            let message = "a server closes with 1000 or 4000 to 4999 here";
            return Err(Status::new(Code::OUT_OF_RANGE, message));
        }
        cx.peer().close(CloseCode::new(code), "as asked for");
        // The end of the session stops this handler.
        std::future::pending().await
    }

    async fn send_away(&self, cx: &Context) {
        cx.peer().go_away(CloseCode::MOVED, Duration::ZERO, None);
    }
}

/// Knows some tokens, which stand in the contract. Whoever brings none is a guest.
pub struct Guests {
    tokens: StaticTokens,
}

/// For how long `brief-token` is good.
const BRIEF: Duration = Duration::from_secs(5);

impl Guests {
    fn new() -> Self {
        let alice = Identity::new("alice").with_scopes(["admin"]);
        Guests {
            tokens: StaticTokens::new()
                .token("alice-token", alice.clone())
                .token("alice-token-2", alice)
                .token("bob-token", Identity::new("bob")),
        }
    }
}

#[async_trait]
impl Authenticator for Guests {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        match request.token() {
            None => Ok(Identity::new("guest")),
            Some("brief-token") => {
                Ok(Identity::new("carol").with_expiry(SystemTime::now() + BRIEF))
            }
            Some("unavailable-token") => Err(AuthError::Unavailable),
            Some(_) => self.tokens.authenticate(request).await,
        }
    }
}

//! A call as the generated code of its service sees it, and the reply that it makes.

use std::{convert::Infallible, ops::Deref};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    body::{
        self, Codec, Rope,
        args::{self, Arguments},
    },
    context::Context,
    error::{DetailsWriter, RpcError},
    items::{Gone, IncomingItems, OutgoingItems, SourceEnd},
    metadata::Metadata,
    peer::Peer,
    protocol::{
        Body, CallId, FIRST_PIECE_BYTES, Frame, Head, RESPONSE_ROOM, Small, StreamCredit,
        StreamRef, body_too_large, complete_response, error_frame, error_options,
    },
    scratch,
    status::{Code, Fate, Status},
    streaming::Streaming,
    topic::Topic,
};

/// A call or notification of the peer, on its way to a handler.
///
/// It is handed on many times before the handler has it: what is moved then is a box, which the
/// connection uses again for its next call.
#[derive(Debug)]
pub struct InboundCall(Box<Parts>);

#[derive(Debug)]
struct Parts {
    method: u32,
    context: Context,
    codec: Codec,
    /// A body of a few bytes.
    small: Small,
    /// One of moderate size, in a buffer that goes with the box.
    copied: Vec<u8>,
    /// A large one.
    shared: Bytes,
    /// For a method with a stream.
    stream: Option<StreamRef>,
    /// What the method grants for its caller's stream, if it says so.
    credit: Option<StreamCredit>,
    /// Once the handler has ended.
    reply: Option<Reply>,
}

impl InboundCall {
    /// One without content, of this peer.
    pub(crate) fn new(peer: Peer) -> Self {
        InboundCall(Box::new(Parts {
            method: 0,
            codec: peer.codec(),
            context: Context::new(peer),
            small: Small::default(),
            copied: Vec::new(),
            shared: Bytes::new(),
            stream: None,
            credit: None,
            reply: None,
        }))
    }

    /// Makes it a call of this method, with a body that came in this message.
    #[inline]
    pub(crate) fn fill(&mut self, method: u32, body: Body, message: &Bytes) -> &mut Context {
        let parts = &mut *self.0;
        parts.method = method;
        match body {
            Body::Within(place) => {
                let body = &message[place];
                if !parts.small.set(body) {
                    parts.copied.extend_from_slice(body);
                }
            }
            Body::Shared(body) => parts.shared = body,
        }
        &mut parts.context
    }

    /// Gives a call its streams.
    pub(crate) fn set_stream(&mut self, stream: StreamRef, credit: Option<StreamCredit>) {
        self.0.stream = Some(stream);
        self.0.credit = credit;
    }

    /// Takes out all content, so that the box can be used again.
    #[inline]
    pub(crate) fn clear(&mut self) {
        let parts = &mut *self.0;
        parts.context.clear();
        parts.small.clear();
        parts.copied.clear();
        if !parts.shared.is_empty() {
            parts.shared = Bytes::new();
        }
        parts.stream = None;
        parts.credit = None;
        if let Some(reply) = parts.reply.take() {
            scratch::put(reply.body);
        }
    }

    /// The handler has ended, and this is what it says.
    #[inline]
    #[must_use]
    pub fn end(mut self, reply: Reply) -> Ended {
        self.0.reply = Some(reply);
        Ended(self)
    }

    /// The method's number in its service.
    #[must_use]
    #[inline]
    pub fn method(&self) -> usize {
        self.0.method as usize
    }

    /// What the handler gets to know beside its arguments.
    #[must_use]
    #[inline]
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    #[inline]
    pub(crate) fn codec(&self) -> Codec {
        self.0.codec
    }

    /// The arguments as they came.
    #[inline]
    pub(crate) fn body(&self) -> &[u8] {
        let parts = &*self.0;
        let bodies = [parts.small.bytes(), &parts.copied, &parts.shared];
        let body = bodies.into_iter().find(|body| !body.is_empty());
        body.unwrap_or_default()
    }

    /// The arguments, a tuple. They may borrow from the call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, for [`InboundCall::refuse`].
    #[inline]
    pub fn args<'a, T: Arguments<'a>>(
        &'a self,
        names: &'static [&'static str],
    ) -> Result<T, Status> {
        let parts = &*self.0;
        body::bytes::sharing(&parts.shared, || {
            args::decode(parts.codec, self.body(), names)
        })
        .map_err(body::BodyError::into_refusal)
    }

    /// Whether the caller may do this, as it is known now.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, or `UNAUTHENTICATED` where the caller is nobody; for
    /// [`InboundCall::refuse`].
    #[inline(never)]
    pub fn check_scope(&self, scope: &str) -> Result<(), Status> {
        let status = match self.0.context.identity() {
            Some(identity) if identity.has_scope(scope) => return Ok(()),
            Some(_) => Status::new(
                Code::PERMISSION_DENIED,
                format!("the caller may not do this: it takes the scope {scope:?}"),
            ),
            None => Status::new(Code::UNAUTHENTICATED, "it is not known who the caller is"),
        };
        Err(status.with_fate(Fate::NotExecuted))
    }

    /// The caller's stream, which is accepted by this.
    #[must_use]
    pub fn streaming<T: DeserializeOwned>(&self) -> Streaming<T> {
        let session = self.0.context.peer.session();
        let announced = session.limits.stream_credit;
        // Without a stream it is that of a call that has ended.
        let stream = self.0.stream.unwrap_or(StreamRef {
            id: CallId::CONNECTION,
            generation: 0,
        });
        let credit = self.0.credit.unwrap_or(announced);
        Streaming::new(session.codec, IncomingItems::new(session, stream, credit))
    }

    /// Accepts a call with a stream: its deadline no longer holds.
    pub fn accept(&self) {
        let Some(stream) = self.0.stream else {
            return;
        };
        let metadata = self.0.context.take_response_metadata();
        let shared = self.0.context.peer.session();
        shared.update(|state, _| {
            let connection = &mut state.connection;
            connection.accept_stream(stream, self.0.credit, None, &metadata);
        });
    }

    /// Accepts the call, sends the items of a stream, and makes the reply that ends it.
    pub async fn respond_stream<S>(&self, items: S) -> Reply
    where
        S: Stream,
        S::Item: Serialize,
    {
        self.respond_fallible_stream(items.map(Ok::<_, Infallible>))
            .await
    }

    /// Like [`InboundCall::respond_stream`], for items that may be errors; the first one is the
    /// reply.
    pub async fn respond_fallible_stream<S, T, E>(&self, items: S) -> Reply
    where
        S: Stream<Item = Result<T, E>>,
        T: Serialize,
        E: RpcError,
    {
        self.0.context.seal_response_metadata();
        self.accept();
        let Some(stream) = self.0.stream else {
            return self.unknown();
        };
        let out = OutgoingItems::new(self.0.context.peer.session(), stream);
        match out.send_all(items).await {
            SourceEnd::Ended => Reply {
                outcome: Outcome::Response(Metadata::default()),
                body: Vec::new(),
            },
            SourceEnd::Failed(error) => self.respond_result(&Err::<(), E>(error)),
            SourceEnd::Gone => Reply::error(Gone.into()),
            SourceEnd::NotSent(status) => Reply::error(status),
        }
    }

    /// Accepts the call and serves the items of a topic, until the subscription ends.
    pub async fn respond_topic<T: Serialize>(&self, topic: Topic<T>) -> Reply {
        let context = &self.0.context;
        context.seal_response_metadata();
        let Some(stream) = self.0.stream else {
            return self.unknown();
        };
        let metadata = context.take_response_metadata();
        let session = context.peer.session();
        match topic.serve(session, stream, &metadata) {
            Ok(feed) => Reply::error(feed.run().await),
            Err(status) => Reply::error(status),
        }
    }

    /// The reply of a method that cannot fail.
    #[inline]
    pub fn respond<T: Serialize>(&self, value: &T) -> Reply {
        let Parts { codec, context, .. } = &*self.0;
        let mut body = scratch::take();
        // As a rule the frame is written around its body at once.
        let framed = context
            .id
            .filter(|_| matches!(codec, Codec::MessagePack) && !context.has_response_metadata());
        if framed.is_some() {
            body.extend_from_slice(&RESPONSE_ROOM);
        }
        match body::encode_sharing(*codec, value, &mut body) {
            Ok(None) => {}
            Ok(Some(shared)) => {
                let start = framed.map_or(0, |_| RESPONSE_ROOM.len());
                let whole = shared.into_rope(&scratch::into_bytes(body), start);
                return Reply {
                    outcome: Outcome::Large(Box::new((whole, context.take_response_metadata()))),
                    body: Vec::new(),
                };
            }
            Err(error) => {
                scratch::put(body);
                return Reply::error(error.into_status());
            }
        }
        let outcome = match framed {
            Some(id) => Outcome::Encoded(complete_response(&mut body, id)),
            None => Outcome::Response(context.take_response_metadata()),
        };
        Reply { outcome, body }
    }

    /// The reply of a method that can fail.
    #[inline]
    pub fn respond_result<T: Serialize, E: RpcError>(&self, result: &Result<T, E>) -> Reply {
        let error = match result {
            Ok(value) => return self.respond(value),
            Err(error) => error,
        };
        let mut body = scratch::take();
        if let Err(status) = error.encode_details(DetailsWriter::new(self.0.codec, &mut body)) {
            scratch::put(body);
            return Reply::error(status);
        }
        Reply {
            outcome: Outcome::Error(error.status()),
            body,
        }
    }

    /// The reply to arguments that could not be decoded.
    #[must_use]
    pub fn refuse(&self, status: Status) -> Reply {
        Reply::error(status)
    }

    /// A notification has been handled.
    #[must_use]
    pub fn handled(&self) -> Reply {
        Reply {
            outcome: Outcome::Nothing,
            body: Vec::new(),
        }
    }

    /// The reply to a number that the service does not have, which the router rules out.
    #[must_use]
    pub fn unknown(&self) -> Reply {
        Reply::error(Status::new(Code::UNIMPLEMENTED, "no such method"))
    }
}

/// A call whose handler has ended, with its reply.
#[derive(Debug)]
pub struct Ended(InboundCall);

impl Ended {
    /// The terminal frame, if the reply is what it is as a rule: a result that was encoded together
    /// with its frame, and that may go in one piece.
    #[inline]
    pub(crate) fn frame(&self, max_body_bytes: usize) -> Option<&[u8]> {
        let reply = self.0.0.reply.as_ref()?;
        let Outcome::Encoded(start) = reply.outcome else {
            return None;
        };
        let fits = reply.body_len() <= max_body_bytes.min(FIRST_PIECE_BYTES);
        fits.then_some(&reply.body[start..])
    }

    pub(crate) fn take_reply(&mut self) -> Reply {
        self.0.0.reply.take().unwrap_or_else(Reply::panicked)
    }

    /// A box to use again.
    #[inline]
    pub(crate) fn into_call(self) -> InboundCall {
        self.0
    }
}

/// What a handler's end looks like to the engine.
#[derive(Debug)]
pub struct Reply {
    outcome: Outcome,
    /// The encoded result or details, in a thread's buffer. For [`Outcome::Encoded`] the result is
    /// behind [`RESPONSE_ROOM`], in which its frame begins.
    body: Vec<u8>,
}

#[derive(Debug)]
enum Outcome {
    /// A whole RESPONSE, which begins there.
    Encoded(usize),
    Response(Metadata),
    /// A result of which parts are shared with the application.
    Large(Box<(Rope, Metadata)>),
    Error(Status),
    Nothing,
}

impl Reply {
    pub(crate) fn error(status: Status) -> Self {
        Reply {
            outcome: Outcome::Error(status),
            body: Vec::new(),
        }
    }

    pub(crate) fn panicked() -> Self {
        Reply::error(Status::new(Code::INTERNAL, "the handler panicked"))
    }

    /// A copy that answers any call: without the frame around its body, which names one.
    pub(crate) fn detached(&self) -> Self {
        let (outcome, start) = match &self.outcome {
            Outcome::Encoded(_) => {
                let outcome = Outcome::Response(Metadata::default());
                (outcome, RESPONSE_ROOM.len())
            }
            Outcome::Response(metadata) => (Outcome::Response(metadata.clone()), 0),
            Outcome::Large(large) => (Outcome::Large(large.clone()), 0),
            Outcome::Error(status) => (Outcome::Error(status.clone()), 0),
            Outcome::Nothing => (Outcome::Nothing, 0),
        };
        Reply {
            outcome,
            body: self.body[start..].to_vec(),
        }
    }

    /// A copy like [`Reply::detached`] that shares nothing with the application: it may be kept for
    /// long, and has only the bytes that it counts.
    pub(crate) fn to_keep(&self) -> Self {
        let mut copy = self.detached();
        if let Outcome::Large(large) = copy.outcome {
            let (whole, metadata) = *large;
            copy.body = whole.first(usize::MAX).into_owned();
            copy.outcome = Outcome::Response(metadata);
        }
        copy
    }

    /// Whether it says that the call had no effect.
    pub(crate) fn says_not_executed(&self) -> bool {
        matches!(&self.outcome, Outcome::Error(status) if status.fate() == Fate::NotExecuted)
    }

    /// How many bytes it takes to keep a copy.
    pub(crate) fn kept_bytes(&self) -> usize {
        let beside = match &self.outcome {
            Outcome::Encoded(_) | Outcome::Nothing => 0,
            Outcome::Response(metadata) => metadata.bytes(),
            Outcome::Large(large) => large.1.bytes(),
            Outcome::Error(status) => status.message().len(),
        };
        self.body_len() + beside
    }

    #[inline]
    fn body_len(&self) -> usize {
        match &self.outcome {
            Outcome::Encoded(_) => self.body.len() - RESPONSE_ROOM.len(),
            Outcome::Large(large) => large.0.len(),
            _ => self.body.len(),
        }
    }

    /// Whether the body goes in pieces.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.body_len() > FIRST_PIECE_BYTES
    }

    /// The reply as it can be sent: a body that the peer would not take becomes an error, and
    /// details that are too large are left out, since code and message can do without.
    #[inline]
    pub(crate) fn limited(mut self, max_body_bytes: usize) -> Self {
        let bytes = self.body_len();
        match self.outcome {
            Outcome::Error(_) if bytes > max_body_bytes.min(FIRST_PIECE_BYTES) => {
                self.body = Vec::new();
                self
            }
            Outcome::Encoded(_) | Outcome::Response(_) | Outcome::Large(_)
                if bytes > max_body_bytes =>
            {
                Reply::error(body_too_large(bytes, max_body_bytes))
            }
            _ => self,
        }
    }

    /// The body of a large response, and the metadata that goes with it.
    pub(crate) fn into_large(self) -> (Rope, Metadata) {
        let body = Bytes::from(self.body);
        match self.outcome {
            Outcome::Large(large) => *large,
            Outcome::Encoded(_) => (
                body.slice(RESPONSE_ROOM.len()..).into(),
                Metadata::default(),
            ),
            Outcome::Response(metadata) => (body.into(), metadata),
            Outcome::Error(_) | Outcome::Nothing => (body.into(), Metadata::default()),
        }
    }

    /// The terminal frame. Not for large responses, which have to go in pieces.
    #[inline]
    pub(crate) fn into_frame(self, id: CallId, codec: Codec) -> EncodedFrame {
        let options;
        let body;
        let frame = match &self.outcome {
            Outcome::Encoded(start) => {
                return EncodedFrame {
                    start: *start,
                    bytes: self.body,
                };
            }
            Outcome::Response(metadata) => {
                options = metadata.options(codec);
                Frame {
                    options: options.as_options(),
                    ..Frame::with_payload(Head::Response { id }, &self.body)
                }
            }
            Outcome::Large(large) => {
                let (whole, metadata) = &**large;
                body = whole.first(usize::MAX);
                options = metadata.options(codec);
                Frame {
                    options: options.as_options(),
                    ..Frame::with_payload(Head::Response { id }, &body)
                }
            }
            Outcome::Nothing => Frame::with_payload(Head::Response { id }, &self.body),
            Outcome::Error(status) => {
                options = error_options(codec, status);
                error_frame(id, status, &options, &self.body)
            }
        };
        let mut bytes = scratch::take();
        frame.encode(codec, &mut bytes);
        scratch::put(self.body);
        EncodedFrame { bytes, start: 0 }
    }
}

/// A frame in a thread's buffer.
pub(crate) struct EncodedFrame {
    bytes: Vec<u8>,
    start: usize,
}

impl EncodedFrame {
    /// Leaves the buffer to the thread.
    pub(crate) fn give_back(self) {
        scratch::put(self.bytes);
    }
}

impl Deref for EncodedFrame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

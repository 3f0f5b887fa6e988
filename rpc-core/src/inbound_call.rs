//! A call as the generated code of its service sees it, and the reply that it makes.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    body::{
        self, Codec,
        args::{self, Arguments},
    },
    context::Context,
    error::{DetailsWriter, RpcError},
    items::{Gone, IncomingItems, OutgoingItems, SourceEnd},
    metadata::Metadata,
    protocol::{
        CallId, FIRST_PIECE_BYTES, Frame, Head, OptionsBuilder, StreamCredit, StreamRef,
        begin_response, body_too_large, end_body, error_frame, error_options,
    },
    scratch,
    status::{Code, Fate, Status},
    streaming::Streaming,
};

/// A call or notification of the peer, on its way to a handler.
#[derive(Debug)]
pub struct InboundCall {
    pub(crate) method: u32,
    pub(crate) context: Context,
    pub(crate) codec: Codec,
    pub(crate) body: Bytes,
    /// For a method with a stream.
    pub(crate) stream: Option<StreamRef>,
    /// What the method grants for its caller's stream, if it says so.
    pub(crate) credit: Option<StreamCredit>,
}

impl InboundCall {
    /// The method's number in its service.
    #[must_use]
    #[inline]
    pub fn method(&self) -> usize {
        self.method as usize
    }

    /// What the handler gets to know beside its arguments.
    #[must_use]
    #[inline]
    pub fn context(&self) -> &Context {
        &self.context
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
        body::bytes::sharing(&self.body, || args::decode(self.codec, &self.body, names))
            .map_err(body::BodyError::into_refusal)
    }

    /// The caller's stream, which is accepted by this.
    #[must_use]
    pub fn streaming<T: DeserializeOwned>(&self) -> Streaming<T> {
        let session = self.context.peer.session();
        let announced = session.limits.stream_credit;
        // Without a stream it is that of a call that has ended.
        let stream = self.stream.unwrap_or(StreamRef {
            id: CallId::CONNECTION,
            generation: 0,
        });
        let credit = self.credit.unwrap_or(announced);
        Streaming::new(session.codec, IncomingItems::new(session, stream, credit))
    }

    /// Accepts a call with a stream: its deadline no longer holds.
    pub fn accept(&self) {
        let Some(stream) = self.stream else {
            return;
        };
        let metadata = self.context.take_response_metadata();
        let shared = self.context.peer.session();
        shared.update(|state, _| {
            let connection = &mut state.connection;
            connection.accept_stream(stream, self.credit, &metadata);
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
        self.context.seal_response_metadata();
        self.accept();
        let Some(stream) = self.stream else {
            return self.unknown();
        };
        let out = OutgoingItems::new(self.context.peer.session(), stream);
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

    /// The reply of a method that cannot fail.
    #[inline]
    pub fn respond<T: Serialize>(&self, value: &T) -> Reply {
        let mut body = scratch::take();
        let metadata = self.context.take_response_metadata();
        // As a rule the frame is written around its body at once.
        let response = match (self.codec, self.context.id) {
            (Codec::MessagePack, Some(id)) if metadata.is_empty() => {
                Some(begin_response(&mut body, id))
            }
            _ => None,
        };
        if let Err(error) = body::encode(self.codec, value, &mut body) {
            scratch::put(body);
            return Reply::error(error.into_status());
        }
        let outcome = match response {
            Some(start) => Outcome::Encoded(end_body(&mut body, start)),
            None => Outcome::Response(metadata),
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
        if let Err(status) = error.encode_details(DetailsWriter::new(self.codec, &mut body)) {
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

/// What a handler's end looks like to the engine.
#[derive(Debug)]
pub struct Reply {
    outcome: Outcome,
    /// The encoded result or details, in a thread's buffer. For [`Outcome::Encoded`] with the frame
    /// around it.
    body: Vec<u8>,
}

#[derive(Debug)]
enum Outcome {
    /// A whole RESPONSE, in which the result begins there.
    Encoded(usize),
    Response(Metadata),
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
            Outcome::Encoded(start) => (Outcome::Response(Metadata::default()), *start),
            Outcome::Response(metadata) => (Outcome::Response(metadata.clone()), 0),
            Outcome::Error(status) => (Outcome::Error(status.clone()), 0),
            Outcome::Nothing => (Outcome::Nothing, 0),
        };
        Reply {
            outcome,
            body: self.body[start..].to_vec(),
        }
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
            Outcome::Error(status) => status.message().len(),
        };
        self.body_len() + beside
    }

    #[inline]
    fn body_len(&self) -> usize {
        match self.outcome {
            Outcome::Encoded(start) => self.body.len() - start,
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
            Outcome::Encoded(_) | Outcome::Response(_) if bytes > max_body_bytes => {
                Reply::error(body_too_large(bytes, max_body_bytes))
            }
            _ => self,
        }
    }

    /// The body of a large response, and the metadata that goes with it.
    pub(crate) fn into_large(self) -> (Bytes, Metadata) {
        let body = Bytes::from(self.body);
        match self.outcome {
            Outcome::Encoded(start) => (body.slice(start..), Metadata::default()),
            Outcome::Response(metadata) => (body, metadata),
            Outcome::Error(_) | Outcome::Nothing => (body, Metadata::default()),
        }
    }

    /// The terminal frame, in a thread's buffer. Not for large responses.
    #[inline]
    pub(crate) fn into_frame(self, id: CallId, codec: Codec) -> Vec<u8> {
        let options;
        let frame = match &self.outcome {
            Outcome::Encoded(_) => return self.body,
            Outcome::Response(metadata) => {
                let mut builder = OptionsBuilder::new(codec);
                metadata.write(&mut builder);
                options = builder.finish();
                Frame {
                    head: Head::Response { id },
                    options: options.as_options(),
                    payload: &self.body,
                }
            }
            Outcome::Nothing => Frame::with_payload(Head::Response { id }, &self.body),
            Outcome::Error(status) => {
                options = error_options(codec, status);
                error_frame(id, status, &options, &self.body)
            }
        };
        let mut encoded = scratch::take();
        frame.encode(codec, &mut encoded);
        scratch::put(self.body);
        encoded
    }
}

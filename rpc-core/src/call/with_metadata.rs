//! The answer together with what came along with it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{Call, PendingCall, UploadCall, raw::RawCall};
use crate::{error::CallError, metadata::Metadata};

/// A call that is ready with its result and the [`Metadata`] that the handler sent along.
#[derive(Debug)]
#[must_use = "a call is made when it is awaited"]
pub struct WithMetadata<C>(C);

/// A call with one answer.
pub trait HasAnswer {
    #[doc(hidden)]
    fn received(&mut self) -> Metadata;
}

impl<C, T, E> Future for WithMetadata<C>
where
    C: HasAnswer + Future<Output = Result<T, CallError<E>>> + Unpin,
{
    type Output = Result<(T, Metadata), CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let call = &mut self.get_mut().0;
        let answer = Pin::new(&mut *call).poll(cx);
        answer.map_ok(|value| (value, call.received()))
    }
}

macro_rules! has_answer {
    ($($call:ident<$($parameter:ident),*>,)*) => {
        $(
            impl<$($parameter),*> $call<$($parameter),*> {
                /// Makes the call ready with its result and what the handler sent along, see
                /// [`Context::set_response_metadata`](crate::Context::set_response_metadata).
                pub fn with_metadata(self) -> WithMetadata<Self> {
                    WithMetadata(self)
                }
            }

            impl<$($parameter),*> HasAnswer for $call<$($parameter),*> {
                fn received(&mut self) -> Metadata {
                    received(&mut self.raw)
                }
            }
        )*
    };
}

fn received(raw: &mut RawCall) -> Metadata {
    std::mem::take(&mut raw.metadata)
}

has_answer! {
    Call<A, T, E>,
    PendingCall<T, E>,
    UploadCall<A, S, I, T, E>,
}

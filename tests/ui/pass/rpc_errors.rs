//! Errors of all shapes, and the codes that they have.

#![deny(warnings)]

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wirecall::{Code, RpcError};

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
enum ChatError {
    #[error("no room {0:?}")]
    #[rpc(code = NOT_FOUND)]
    NoRoom(String),
    #[error("{who} is muted for {seconds} s")]
    #[rpc(code = 64)]
    Muted { who: String, seconds: u64 },
    #[error("full")]
    #[rpc(code = RESOURCE_EXHAUSTED)]
    Full,
    #[error("something else")]
    Other,
}

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
#[rpc(code = FAILED_PRECONDITION)]
enum WithDefault {
    #[error("not yet")]
    NotYet,
    #[error("gone")]
    #[rpc(code = 16)]
    Gone(),
}

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
enum AllCoded {
    #[error("a")]
    #[rpc(code = 64)]
    A,
    #[error("b")]
    #[rpc(code = 0xFFFF)]
    B,
}

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
#[error("refused: {why}")]
#[rpc(code = 1_000)]
struct Refused {
    why: String,
}

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
#[error("{0}")]
struct Tuple(String);

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
#[error("unit")]
struct Unit;

#[derive(Debug, Serialize, Deserialize, RpcError)]
enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
#[error("conflict with {0:?}")]
#[rpc(code = ABORTED)]
struct Conflict<T: fmt::Debug, const N: usize = 1>(T)
where
    T: Clone;

#[derive(Debug, Error, Serialize, Deserialize, RpcError)]
enum Either<A, B> {
    #[error("a")]
    #[rpc(code = 64)]
    A(A),
    #[error("b")]
    B(B),
}

#[wirecall::service]
trait Errors<T: Clone + fmt::Debug> {
    async fn chat(&self) -> Result<(), ChatError>;
    async fn conflict(&self) -> Result<(), Conflict<T>>;
    async fn either(&self) -> Result<Never, Either<T, u8>>;
}

fn main() {
    fn code(error: impl RpcError) -> Code {
        error.status().code()
    }

    let muted = ChatError::Muted {
        who: "eve".into(),
        seconds: 60,
    };
    assert_eq!(muted.status().message(), "eve is muted for 60 s");
    assert_eq!(code(muted), Code::new(64));
    assert_eq!(code(ChatError::NoRoom("attic".into())), Code::NOT_FOUND);
    assert_eq!(code(ChatError::Full), Code::RESOURCE_EXHAUSTED);
    assert_eq!(code(ChatError::Other), Code::UNKNOWN);
    assert_eq!(code(WithDefault::NotYet), Code::FAILED_PRECONDITION);
    assert_eq!(code(WithDefault::Gone()), Code::UNAUTHENTICATED);
    assert_eq!(code(AllCoded::A), Code::new(64));
    assert_eq!(code(AllCoded::B), Code::new(65535));
    assert_eq!(code(Refused { why: "no".into() }), Code::new(1000));
    assert_eq!(code(Tuple("no".into())), Code::UNKNOWN);
    assert_eq!(code(Unit), Code::UNKNOWN);
    assert_eq!(code(Conflict::<u8>(1)), Code::ABORTED);
    assert_eq!(code(Either::<u8, u8>::A(1)), Code::new(64));
    assert_eq!(code(Either::<u8, u8>::B(1)), Code::UNKNOWN);
}

use std::{borrow::Cow, fmt, marker::PhantomData, rc::Rc};

use serde::{Deserialize, Serialize};
use wirecall::RpcError;

#[derive(RpcError)]
union Both {
    small: u8,
    large: u64,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, RpcError)]
#[error("{0}")]
struct Borrowed<'a>(Cow<'a, str>);

#[derive(Debug, RpcError)]
struct NotSerde;

impl fmt::Display for NotSerde {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not serde")
    }
}

#[derive(Debug, Serialize, Deserialize, RpcError)]
struct NotDisplay;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, RpcError)]
#[error("{0:?}")]
struct NotSend(PhantomData<Rc<u8>>);

fn main() {}

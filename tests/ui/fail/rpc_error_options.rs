use serde::{Deserialize, Serialize};
use wirecall::RpcError;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, RpcError)]
#[error("refused")]
enum Codes {
    #[rpc(code = 0)]
    Zero,
    #[rpc(code = 17)]
    Reserved,
    #[rpc(code = 63)]
    ReservedToo,
    #[rpc(code = 65536)]
    TooLarge,
    #[rpc(code = -1)]
    Negative,
    #[rpc(code = "NOT_FOUND")]
    Text,
    #[rpc(code = Code::NOT_FOUND)]
    Path,
    #[rpc(code = NOT_FOND)]
    Misspelt,
    #[rpc(code = 64, code = 65)]
    Twice,
    #[rpc(cod = 64)]
    Key,
    #[rpc(crate = wirecall)]
    Crate,
    #[rpc]
    Bare,
    Field(#[rpc(code = 64)] u8),
    #[rpc(code = 65535)]
    Fine,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, RpcError)]
#[error("refused")]
#[rpc(status = 64)]
struct Unknown;

fn is_an_error(_: impl RpcError) {}

fn main() {
    is_an_error(Codes::Fine);
    is_an_error(Unknown);
}

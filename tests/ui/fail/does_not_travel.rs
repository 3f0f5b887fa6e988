use serde::{Deserialize, Serialize};
use wirecall::Status;

struct Neither;

#[derive(Serialize)]
struct OnlyOut;

#[derive(Deserialize)]
struct OnlyIn;

#[derive(Debug)]
struct NotRpc;

#[wirecall::service]
trait Arguments {
    async fn neither(&self, first: u8, value: Neither, last: u8);
    async fn only_out(&self, first: u8, value: OnlyOut, last: u8);
    async fn only_in(&self, first: u8, value: OnlyIn, last: u8);
    async fn borrowed(&self, value: &Neither);
}

#[wirecall::service]
trait Replies {
    async fn neither(&self) -> Vec<Neither>;
    async fn only_out(&self) -> OnlyOut;
    async fn only_in(&self) -> OnlyIn;
    async fn result(&self) -> Result<Neither, Status>;
}

#[wirecall::service]
trait Errors {
    async fn text(&self) -> Result<u64, String>;
    async fn not_rpc(&self) -> Result<u64, NotRpc>;
}

fn main() {}

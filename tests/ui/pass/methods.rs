//! Default bodies, deprecation, `cfg` and lints on methods.

#![deny(warnings)]

use wirecall::{Context, Peer, Status};

#[wirecall::service]
trait Defaults {
    async fn one(&self) -> u64;

    async fn doubled(&self, number: u64) -> Result<u64, Status> {
        if number == 0 {
            return Err(Status::new(wirecall::Code::OUT_OF_RANGE, "zero"));
        }
        let one = self.tripled(number).await? / 3 * 2;
        Ok(one)
    }

    async fn tripled(&self, number: u64) -> Result<u64, Status> {
        Ok(self.one().await * number * 3)
    }

    async fn borrowed(&self, cx: &Context, text: &str, bytes: &[u8]) -> String {
        let _ = (cx, bytes);
        tokio::task::yield_now().await;
        text.to_owned()
    }

    async fn never_ready(&self) -> u64 {
        std::future::pending().await
    }

    #[notify]
    async fn told(&self, text: &str) {
        let _ = text;
    }
}

struct One;

impl Defaults for One {
    async fn one(&self) -> u64 {
        1
    }
}

/// Another way to implement a method: as what it is.
struct ByHand;

impl Defaults for ByHand {
    #[allow(clippy::manual_async_fn)]
    fn one(&self) -> impl Future<Output = u64> + Send {
        async { 1 }
    }
}

#[wirecall::service]
trait Deprecated {
    #[deprecated]
    async fn old(&self);
    #[deprecated(since = "1.0.0", note = "use `new_one`")]
    #[notify]
    async fn older(&self, text: &str);
    async fn new_one(&self);
}

#[deprecated]
#[wirecall::service]
pub trait Before {
    async fn ping(&self);
    #[notify]
    async fn told(&self);
}

#[wirecall::service]
#[deprecated = "use `Defaults`"]
pub trait Behind {
    async fn ping(&self);
}

#[wirecall::service]
trait Configured {
    #[cfg(all())]
    async fn there(&self) -> u8;
    #[cfg(any())]
    async fn not_there(&self) -> NoSuchType;
    #[cfg(all())]
    async fn either(&self, number: u8) -> u8;
    #[cfg(not(all()))]
    async fn either(&self, text: &str) -> NoSuchType;
    #[cfg(any())]
    #[notify]
    async fn not_told(&self, text: NoSuchType);
    #[notify]
    async fn told(&self);
}

struct Here;

impl Configured for Here {
    async fn there(&self) -> u8 {
        1
    }
    async fn either(&self, number: u8) -> u8 {
        number
    }
    async fn told(&self) {}
}

#[wirecall::service]
trait Linted {
    #[allow(unused_variables)]
    async fn unused(&self, text: &str) {}
    #[rpc(spawn)]
    #[notify]
    async fn spawned(&self);
    #[rpc(name = "a")]
    #[rpc(spawn)]
    async fn apart(&self);
}

fn calls(peer: &Peer) {
    drop(ConfiguredClient::new(peer).either(1));
    #[allow(deprecated)]
    drop(DeprecatedClient::new(peer).old());
}

fn main() {
    let _ = DefaultsServer::new(One);
    let _ = DefaultsServer::new(ByHand);
    let _ = ConfiguredServer::new(Here);
    let _ = calls;
}

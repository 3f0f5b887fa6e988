#[wirecall::service(nmae = "chat")]
trait Misspelt {
    #[rpc(nmae = "post", spawn)]
    async fn post(&self);
    #[rpc]
    async fn bare(&self);
    #[rpc(name)]
    async fn no_value(&self);
    #[rpc(name = 7)]
    async fn no_text(&self);
    #[rpc(spawn = true)]
    async fn value(&self);
    #[rpc(name = "one", name = "two")]
    async fn twice(&self);
    #[rpc(name = "three")]
    #[rpc(name = "four")]
    async fn twice_apart(&self);
    #[rpc(idempotent = true)]
    async fn idempotent_value(&self);
    #[rpc(scope)]
    async fn no_scope(&self);
    #[rpc(scope = "")]
    async fn empty_scope(&self);
    #[rpc(scope = "one", scope = "two")]
    async fn two_scopes(&self);
}

#[wirecall::service]
trait NotRepeated {
    #[rpc(idempotent)]
    #[notify]
    async fn told(&self);
    #[rpc(name = "all", idempotent)]
    async fn down(&self) -> impl futures::Stream<Item = u64>;
    #[rpc(idempotent)]
    async fn up(&self, values: wirecall::Streaming<u64>);
    #[rpc(idempotent)]
    fn both(&self, values: wirecall::Streaming<u64>) -> impl futures::Stream<Item = u64>;
}

#[wirecall::service(name = "a", name = "b")]
trait Twice {}

#[wirecall::service(crate = wirecall, crate = wirecall)]
trait CrateTwice {}

#[wirecall::service(crate = "no path")]
trait NoPath {}

#[wirecall::service("chat")]
trait Text {}

fn main() {}

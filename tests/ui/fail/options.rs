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

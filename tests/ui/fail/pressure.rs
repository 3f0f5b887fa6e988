#[wirecall::service]
trait Notifications {
    #[notify(all)]
    async fn unknown(&self);
    #[notify(behind = "drop_oldest")]
    async fn value(&self);
    #[notify(volatile, drop_oldest)]
    async fn two(&self);
    #[notify(volatile = true)]
    async fn volatile_value(&self);
    #[notify(drop_newest)]
    #[notify(drop_newest)]
    async fn twice_apart(&self);
    #[notify(conflate(symbol))]
    async fn no_such_key(&self, name: &str);
    #[notify(conflate(cx))]
    async fn not_sent(&self, cx: &wirecall::Context, name: &str);
    #[notify(conflate())]
    async fn empty_key(&self, name: &str);
    #[notify(conflate(name, number))]
    async fn two_keys(&self, name: &str, number: u64);
    #[notify(conflate = name)]
    async fn key_as_value(&self, name: &str);
    #[notify(conflate("name"))]
    async fn key_as_text(&self, name: &str);
    #[rpc(volatile)]
    async fn a_call(&self);
}

fn main() {}

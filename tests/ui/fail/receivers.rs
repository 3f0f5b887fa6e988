use std::sync::Arc;

#[wirecall::service]
trait Receivers {
    async fn none();
    async fn none_but_arguments(text: &str);
    async fn by_value(self);
    async fn mutable_value(mut self)
    where
        Self: Sized,
    {
    }
    async fn mutable(&mut self);
    async fn shared(self: Arc<Self>);
    async fn lifetime<'a>(&'a self);
    async fn sound(&self);
}

fn main() {
    let _: fn(&ReceiversClient) -> wirecall::Call<_, ()> = ReceiversClient::sound;
}

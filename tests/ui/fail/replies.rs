use std::{borrow::Cow, fmt::Display};

type Outcome<T> = std::result::Result<T, wirecall::Status>;

mod alias {
    pub type Result<T> = super::Outcome<T>;
}

#[wirecall::service]
trait Replies {
    async fn text(&self) -> &str;
    async fn literal(&self) -> Option<&'static str>;
    async fn cow(&self, text: &str) -> Cow<'_, str>;
    async fn fine(&self) -> Cow<'static, str>;
    async fn opaque(&self) -> impl Display;
    async fn object(&self) -> Box<dyn Display + Send>;
    async fn alias(&self) -> alias::Result<u64>;
    async fn error(&self) -> Result<u64, &'static str>;
    async fn itself(&self) -> Result<Self, wirecall::Status>
    where
        Self: Sized;
}

fn main() {}

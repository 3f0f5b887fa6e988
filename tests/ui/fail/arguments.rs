use std::{borrow::Cow, fmt::Display};

use wirecall::Context;

#[wirecall::service]
trait Patterns {
    async fn mutable(&self, mut count: u8) {
        count += 1;
        let _ = count;
    }
    async fn tuple(&self, (left, right): (u8, u8)) {
        let _ = left + right;
    }
    async fn ignored(&self, _: u8) {}
    async fn configured(&self, #[cfg(all())] on: u8) {}
}

#[wirecall::service]
trait Borrowed {
    async fn mutable(&self, text: &mut String);
    async fn mutable_option(&self, text: Option<&mut str>);
    async fn twice(&self, text: &&str);
    async fn nested(&self, texts: Vec<&str>);
    async fn in_slice(&self, texts: &[&str]);
    async fn in_tuple(&self, texts: (&str, u8));
    async fn in_option(&self, point: Option<&u64>);
    async fn forever(&self, text: &'static str);
    async fn forever_in(&self, text: Option<&'static str>);
    async fn cow(&self, text: Cow<'_, [&str]>);
}

#[wirecall::service]
trait Unknown {
    async fn object(&self, value: &dyn Display);
    async fn boxed(&self, value: Box<dyn Display + Send>);
    async fn opaque(&self, value: impl Display);
    async fn function(&self, value: fn(u8) -> u8);
    async fn itself(&self, value: Vec<Self>)
    where
        Self: Sized;
}

#[wirecall::service]
trait Contexts {
    async fn by_value(&self, cx: Context);
    async fn mutable(&self, cx: &mut Context);
    async fn twice(&self, cx: &Context, text: &str, again: &wirecall::Context);
}

#[wirecall::service]
trait Many {
    #[rustfmt::skip]
    async fn twelve_and_the_context(
        &self, cx: &Context,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8,
    );
    #[rustfmt::skip]
    async fn fourteen(
        &self,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8,
        m: u8, n: u8,
    );
}

fn main() {}

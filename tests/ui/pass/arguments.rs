//! All forms of arguments and of what is returned.

#![deny(warnings)]

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use wirecall::{Bytes, Call, Context, Peer, Status};

#[derive(Clone, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: i64,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    text: Cow<'a, str>,
}

type Alias = (u8, String);

#[wirecall::service]
trait Forms {
    async fn none(&self);
    async fn unit(&self) -> ();
    async fn context_alone(&self, cx: &Context);
    async fn context_between(&self, a: u8, cx: &wirecall::Context, b: u8) -> u8;
    async fn context_last(&self, a: u8, _cx: &Context) -> u8;
    async fn borrowed(&self, text: &str, bytes: &[u8], points: &[Point], point: &Point);
    async fn owned(&self, text: String, bytes: Bytes, point: Point, alias: Alias);
    async fn optional(&self, text: Option<&str>, bytes: Option<&[u8]>, point: Option<Point>);
    async fn qualified(&self, text: std::option::Option<&str>, strings: std::vec::Vec<String>);
    async fn elided(&self, text: Cow<'_, str>, texts: &[Cow<'_, str>], line: Line<'_>);
    async fn fixed(&self, text: Cow<'static, str>, array: [u8; 4], unit: ()) -> Cow<'static, str>;
    async fn of_collections(&self, map: &HashMap<String, Vec<u8>>) -> HashMap<u64, (u8, i8)>;
    #[allow(clippy::type_complexity)]
    async fn result(&self) -> Result<Option<Vec<Result<u8, String>>>, Status>;
    async fn qualified_result(&self) -> std::result::Result<(), wirecall::Status>;
    #[rustfmt::skip]
    #[allow(clippy::too_many_arguments)]
    async fn twelve(
        &self, cx: &Context,
        a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8,
    ) -> u8;
}

struct Echo;

impl Forms for Echo {
    async fn none(&self) {}
    async fn unit(&self) {}
    async fn context_alone(&self, _cx: &Context) {}
    async fn context_between(&self, a: u8, _cx: &Context, b: u8) -> u8 {
        a + b
    }
    async fn context_last(&self, a: u8, _cx: &Context) -> u8 {
        a
    }
    async fn borrowed(&self, _text: &str, _bytes: &[u8], _points: &[Point], _point: &Point) {}
    async fn owned(&self, _text: String, _bytes: Bytes, _point: Point, _alias: Alias) {}
    async fn optional(&self, _text: Option<&str>, _bytes: Option<&[u8]>, _point: Option<Point>) {}
    async fn qualified(&self, _text: Option<&str>, _strings: Vec<String>) {}
    async fn elided(&self, _text: Cow<'_, str>, _texts: &[Cow<'_, str>], line: Line<'_>) {
        let _ = line.text;
    }
    async fn fixed(
        &self,
        text: Cow<'static, str>,
        _array: [u8; 4],
        _unit: (),
    ) -> Cow<'static, str> {
        text
    }
    async fn of_collections(&self, _map: &HashMap<String, Vec<u8>>) -> HashMap<u64, (u8, i8)> {
        HashMap::new()
    }
    async fn result(&self) -> Result<Option<Vec<Result<u8, String>>>, Status> {
        Ok(None)
    }
    async fn qualified_result(&self) -> Result<(), Status> {
        Ok(())
    }
    #[rustfmt::skip]
    async fn twelve(
        &self, _: &Context,
        a: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8, l: u8,
    ) -> u8 {
        a + l
    }
}

/// A call borrows its arguments and not the client.
fn calls<'a>(peer: &Peer, text: &'a str, bytes: &'a [u8]) -> impl Future + Send + 'a {
    let client = FormsClient::new(peer);
    client.optional(Some(text), Some(bytes), None)
}

/// With arguments that live for ever it can be spawned.
fn spawned(client: &FormsClient) {
    fn is_a_task(_: impl Future + Send + Unpin + 'static) {}

    is_a_task(client.none());
    is_a_task(client.borrowed("text", b"bytes", &[], &Point { x: 1, y: 2 }));
    is_a_task(client.context_between(1, 2));
    is_a_task(client.result());
}

fn main() {
    let _ = FormsServer::new(Echo);
    let _ = calls;
    let _ = spawned;
    let _: fn(&FormsClient) -> Call<_, (), std::convert::Infallible> = FormsClient::unit;
}

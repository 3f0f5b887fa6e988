//! Metadata with a call and with its answer, and the priority that travels beside them.

use futures::{Stream, StreamExt as _, stream};
use wirecall::{
    Bytes, Code, Codec, Context, Fate, Limits, MetadataValue, Priority, Server, Status, Streaming,
};

use crate::support::{connect, idle, start};

#[wirecall::service]
trait Library {
    /// Answers with the size, and says in the metadata what was lent.
    async fn lend(&self, cx: &Context, title: &str) -> Result<u64, Status>;
    /// Counts the titles.
    async fn restock(&self, cx: &Context, titles: Streaming<String>) -> Result<u64, Status>;
    /// The chapters, and in the metadata how many there are.
    async fn chapters(&self, cx: &Context) -> Result<impl Stream<Item = u64> + Send, Status>;
    /// What comes back when metadata is set after the stream has begun.
    async fn late(&self, cx: &Context) -> impl Stream<Item = u16> + Send;
    async fn priority(&self, cx: &Context) -> String;
}

struct Shelf;

impl Library for Shelf {
    async fn lend(&self, cx: &Context, title: &str) -> Result<u64, Status> {
        cx.set_response_metadata("title", "overwritten")?;
        cx.set_response_metadata("title", title)?;
        cx.set_response_metadata("cover-bin", vec![0_u8, 255])?;
        match title {
            "" => Err(Status::new(Code::NOT_FOUND, "no title")),
            "large" => Ok(1),
            _ => Ok(title.len() as u64),
        }
    }

    async fn restock(&self, cx: &Context, titles: Streaming<String>) -> Result<u64, Status> {
        let count = titles.count().await as u64;
        cx.set_response_metadata("shelf", format!("S{count}"))?;
        Ok(count)
    }

    async fn chapters(&self, cx: &Context) -> Result<impl Stream<Item = u64> + Send, Status> {
        cx.set_response_metadata("chapters", "3")?;
        Ok(stream::iter(0..3))
    }

    async fn late(&self, cx: &Context) -> impl Stream<Item = u16> + Send {
        stream::iter([()]).map(move |()| {
            let refused = cx.set_response_metadata("late", "x").unwrap_err();
            refused.code().value()
        })
    }

    async fn priority(&self, cx: &Context) -> String {
        format!("{:?}", cx.priority())
    }
}

#[tokio::test]
async fn metadata_comes_with_the_answer_of_every_shape() {
    let address = start(Server::builder().service(LibraryServer::new(Shelf))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let library = LibraryClient::new(&client);

        let (length, metadata) = library.lend("a \"b\"").with_metadata().await.unwrap();
        assert_eq!(length, 5);
        let cover = MetadataValue::Bytes(Bytes::from(vec![0_u8, 255]));
        let title = MetadataValue::Text("a \"b\"".to_owned());
        let entries: Vec<_> = metadata.iter().collect();
        assert_eq!(entries, [("title", &title), ("cover-bin", &cover)]);

        let pending = library.lend("started").start().with_metadata();
        assert_eq!(pending.await.unwrap().1.get("title"), Some("started"));

        let titles = stream::iter(["a".to_owned(), "b".to_owned()]);
        let (count, metadata) = library.restock(titles).with_metadata().await.unwrap();
        assert_eq!((count, metadata.get("shelf")), (2, Some("S2")));

        let chapters = library.chapters().await.unwrap();
        assert_eq!(chapters.metadata().get("chapters"), Some("3"));
        assert_eq!(chapters.count().await, 3);

        // A slot that is used again has none of it left.
        assert_eq!(library.lend("x").await.unwrap(), 1);
        let (_, metadata) = library.priority().with_metadata().await.unwrap();
        assert!(metadata.is_empty());
        idle(&client).await;
    }
}

#[tokio::test]
async fn an_error_has_no_metadata_and_a_stream_that_has_begun_takes_none() {
    let address = start(Server::builder().service(LibraryServer::new(Shelf))).await;
    let client = connect(address, Codec::MessagePack).await;
    let library = LibraryClient::new(&client);
    let failed = library.lend("").with_metadata().await.unwrap_err();
    assert_eq!(failed.code(), Code::NOT_FOUND);
    let codes: Vec<_> = library.late().await.unwrap().collect().await;
    assert_eq!(codes.len(), 1);
    assert_eq!(
        codes[0].as_ref().unwrap(),
        &Code::FAILED_PRECONDITION.value()
    );
}

#[tokio::test]
async fn too_much_metadata_of_an_answer_is_refused_where_it_is_too_much() {
    let server = Server::builder().service(LibraryServer::new(Shelf));
    let address = start(server.limits(Limits::default().max_metadata_bytes(20))).await;
    let client = connect(address, Codec::MessagePack).await;
    let library = LibraryClient::new(&client);
    // The handler's own limit.
    let failed = library.lend(&"x".repeat(30)).await.unwrap_err();
    assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);

    let address = start(Server::builder().service(LibraryServer::new(Shelf))).await;
    let limits = Limits::default().max_metadata_entries(1);
    let client = wirecall::Client::builder(format!("ws://{address}"))
        .limits(limits)
        .connect()
        .await
        .unwrap();
    // The caller's.
    let library = LibraryClient::new(&client);
    let failed = library.lend("x").await.unwrap_err();
    assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(library.chapters().await.unwrap().count().await, 3);
    idle(&client).await;
}

#[tokio::test]
async fn the_keys_of_tracing_are_reserved() {
    let address = start(Server::builder().service(LibraryServer::new(Shelf))).await;
    let client = connect(address, Codec::MessagePack).await;
    let library = LibraryClient::new(&client);
    for key in ["traceparent", "tracestate"] {
        let failed = library.lend("x").metadata(key, "00").await.unwrap_err();
        assert_eq!(failed.code(), Code::INVALID_ARGUMENT);
        assert_eq!(failed.fate(), Fate::NotSent);
        assert!(failed.to_string().contains("tracing"), "{failed}");
    }
}

#[tokio::test]
async fn a_handler_knows_the_priority_of_its_call() {
    let address = start(Server::builder().service(LibraryServer::new(Shelf))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let library = LibraryClient::new(&client);
        assert_eq!(library.priority().await.unwrap(), "Normal");
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            let answer = library.priority().priority(priority).await.unwrap();
            assert_eq!(answer, format!("{priority:?}"));
        }
    }
}

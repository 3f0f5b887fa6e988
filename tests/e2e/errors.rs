//! What goes wrong with one call, and with no other.

use wirecall::{CallError, Code, Codec, Fate, Server};

use crate::{
    interop::{Implementation, InteropClient, InteropError, InteropEventsClient, InteropServer},
    support::{connect, idle, soon, start, start_interop},
};

#[tokio::test]
async fn a_typed_error_comes_back_as_the_same_value() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        for (kind, error, code) in [
            (
                "not_found",
                InteropError::NotFound {
                    what: "such thing".to_owned(),
                },
                Code::NOT_FOUND,
            ),
            (
                "quota",
                InteropError::Quota { used: 3, limit: 3 },
                Code::RESOURCE_EXHAUSTED,
            ),
            (
                "custom",
                InteropError::Custom("as you like".to_owned()),
                Code::new(64),
            ),
            ("?", InteropError::UnknownKind, Code::INVALID_ARGUMENT),
        ] {
            let failed = interop.typed_fail(kind).await.unwrap_err();
            assert_eq!((failed.code(), failed.fate()), (code, Fate::Executed));
            assert_eq!(failed.method(), Some(error));
        }
    }
}

#[tokio::test]
async fn a_status_comes_back_with_its_code_and_message() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        for code in [1, 5, 16, 63, 64, 65_535] {
            let failed = interop.fail(code, "\"why\"").await.unwrap_err();
            let CallError::Status(status) = failed else {
                panic!("{failed:?}");
            };
            assert_eq!(status.code(), Code::new(code));
            assert_eq!(status.message(), "\"why\"");
            assert_eq!(status.fate(), Fate::Executed);
        }
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_that_call_alone() {
    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    let other = interop.sleep(50).start();
    let failed = interop.panic().await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.fate()),
        (Code::INTERNAL, Fate::Executed)
    );
    assert_eq!(soon(other).await.unwrap(), 50);
    assert_eq!(interop.add(1, 1).await.unwrap(), 2);
    idle(&client).await;
}

#[wirecall::service]
trait Late {
    async fn panic_after_waiting(&self);
}

struct Bomb;

impl Late for Bomb {
    async fn panic_after_waiting(&self) {
        tokio::task::yield_now().await;
        panic!("as the test wants it");
    }
}

#[tokio::test]
async fn a_panic_after_an_await_is_an_internal_error_too() {
    let address = start(Server::builder().service(LateServer::new(Bomb))).await;
    let client = connect(address, Codec::MessagePack).await;
    let late = LateClient::new(&client);
    let failed = soon(late.panic_after_waiting()).await.unwrap_err();
    assert_eq!(failed.code(), Code::INTERNAL);
    idle(&client).await;
}

#[tokio::test]
async fn an_unknown_service_or_method_is_named_and_was_not_executed() {
    let server = Server::builder().service(InteropServer::new(Implementation).named("Interops"));
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;

    let failed = InteropClient::new(&client).add(1, 2).await.unwrap_err();
    assert_eq!(failed.code(), Code::UNIMPLEMENTED);
    assert_eq!(failed.fate(), Fate::NotExecuted);
    let text = failed.to_string();
    assert!(text.contains("no service \"Interop\""), "{text}");
    assert!(text.contains("did you mean \"Interops\"?"), "{text}");

    let failed = InteropEventsClient::named(&client, "Interops")
        .answer("?")
        .await
        .unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("has no method \"answer\""), "{text}");
}

#[wirecall::service(name = "Interop")]
trait OtherInterop {
    /// The arguments that `Interop.add` does not take.
    async fn add(&self, a: &str, b: bool) -> i64;
    /// The result that `Interop.sleep` does not give.
    async fn sleep(&self, ms: u64) -> String;
}

#[tokio::test]
async fn what_cannot_be_decoded_fails_the_call_that_it_belongs_to() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let other = OtherInteropClient::new(&client);

        let failed = other.add("one", true).await.unwrap_err();
        assert_eq!(failed.code(), Code::INVALID_ARGUMENT);
        assert_eq!(failed.fate(), Fate::NotExecuted);
        assert!(failed.to_string().contains("argument `a`"), "{failed}");

        let failed = other.sleep(0).await.unwrap_err();
        assert_eq!(failed.code(), Code::INTERNAL);
        assert_eq!(failed.fate(), Fate::Executed);
        assert!(failed.to_string().contains("result"), "{failed}");

        assert_eq!(InteropClient::new(&client).add(1, 2).await.unwrap(), 3);
        idle(&client).await;
    }
}

#[tokio::test]
async fn bad_metadata_fails_before_anything_is_sent() {
    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    for key in ["", "1", "Upper", "blank key", "text-bin", &"k".repeat(65)] {
        let failed = interop.add(1, 2).metadata(key, "x").await.unwrap_err();
        assert_eq!(failed.code(), Code::INVALID_ARGUMENT, "{key:?}");
        assert_eq!(failed.fate(), Fate::NotSent, "{key:?}");
    }
    let failed = interop
        .add(1, 2)
        .metadata("large", "x".repeat(5000))
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(failed.fate(), Fate::NotSent);
}

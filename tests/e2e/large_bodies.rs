//! Bodies that travel in pieces.

use std::sync::Arc;

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use wirecall::{Bytes, Client, Code, Codec, Context, Fate, KeptResults, Limits, Server, Status};

use crate::{
    interop::{
        Implementation, InteropClient, InteropEvents, InteropEventsClient, InteropEventsServer,
        InteropServer,
    },
    support::{Door, LobbyClient, LobbyServer, connect, dial, idle, soon, start, start_interop},
};

/// Bytes that would show if pieces were lost, doubled or exchanged.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 + n / 251) as u8).collect()
}

#[tokio::test]
async fn bodies_of_any_size_up_to_the_limit_arrive_whole() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        // Around the first piece, around a further one, and far beyond.
        for length in [65_000, 65_530, 65_536, 65_537, 81_920, 81_921, 3_000_000] {
            let data = pattern(length);
            let echoed = soon(interop.echo(&data)).await.unwrap();
            assert!(echoed == *data, "{length} bytes in {codec:?}");
        }
        idle(&client).await;
    }
}

#[tokio::test]
async fn text_is_cut_between_characters() {
    let address = start_interop().await;
    let client = connect(address, Codec::Json).await;
    let interop = InteropClient::new(&client);
    for shift in 0..4 {
        let text = format!("{}{}", "x".repeat(shift), "\u{1F980}\"\\é".repeat(20_000));
        let parts = [text.clone()];
        assert!(soon(interop.concat(&parts)).await.unwrap() == text);
    }
}

#[tokio::test]
async fn a_body_of_16_mib_passes_and_one_byte_more_does_not() {
    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    // The body has an array of one and the header of a `bin` around the data.
    let data = vec![7; (16 << 20) - 6];
    assert_eq!(soon(interop.echo(&data)).await.unwrap().len(), data.len());
    let data = vec![7; (16 << 20) - 5];
    let failed = soon(interop.echo(&data)).await.unwrap_err();
    assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(failed.fate(), Fate::NotSent);
    idle(&client).await;
}

#[tokio::test]
async fn small_calls_overtake_large_ones() {
    // Within the process, where no more is on its way than one of the transport's 64 KiB: what the
    // operating system's buffers hold on a real socket cannot be overtaken.
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    // In a task: a runtime polls what it blocks on less often than its tasks.
    let overtaking = tokio::spawn(async move {
        let interop = InteropClient::new(&client);
        let data = pattern(12 << 20);
        let large = interop.echo(&data);
        tokio::pin!(large);
        let mut overtaken = 0;
        loop {
            tokio::select! {
                biased;
                echoed = &mut large => {
                    assert!(echoed.unwrap() == *data);
                    return overtaken;
                }
                sum = interop.add(1, 1) => {
                    assert_eq!(sum.unwrap(), 2);
                    overtaken += 1;
                }
            }
        }
    });
    let overtaken = soon(overtaking).await.unwrap();
    // 12 MiB each way are some 400 turns of writing; a small call waits for a few of them.
    assert!(overtaken >= 50, "{overtaken}");
}

#[tokio::test]
async fn many_large_bodies_share_what_the_peer_puts_together() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .limits(
            Limits::default()
                .max_body_bytes(1 << 20)
                .max_assembly_bytes(1 << 20),
        );
    let address = start(server).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        let data = pattern(400_000);
        let calls = (0..20).map(|_| async {
            assert!(interop.echo(&data).await.unwrap() == *data);
        });
        soon(futures::future::join_all(calls)).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn giving_up_on_a_large_call_leaves_nothing_behind() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);
        let data = pattern(1 << 20);
        // Dropped before the first byte, in the middle, and while the answer comes.
        for polls in [1, 2, 5, 20, 50] {
            let mut calls: Vec<_> = (0..6).map(|_| Box::pin(interop.echo(&data))).collect();
            for _ in 0..polls {
                for call in &mut calls {
                    let _ = futures::poll!(call);
                }
                tokio::task::yield_now().await;
            }
            drop(calls);
            assert_eq!(soon(interop.add(1, 1)).await.unwrap(), 2);
        }
        idle(&client).await;
    }
}

struct Listener(tokio::sync::mpsc::UnboundedSender<(u64, usize)>);

impl InteropEvents for Listener {
    async fn event(&self, index: u64, data: &[u8]) {
        let _ = self.0.send((index, data.len()));
    }

    async fn answer(&self, _question: &str) -> String {
        String::new()
    }
}

#[tokio::test]
async fn large_and_small_notifications_keep_their_order() {
    let (door, mut entering) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    for codec in Codec::ALL {
        let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
        let client = dial(address, codec)
            .serve(InteropEventsServer::new(Listener(events)))
            .connect()
            .await
            .unwrap();
        soon(LobbyClient::new(&client).enter()).await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        let sizes = [1, 200_000, 2, 300_000, 100_000, 3];
        let events = InteropEventsClient::new(&peer);
        for (index, size) in sizes.into_iter().enumerate() {
            let data = vec![7; size];
            soon(events.event(index as u64, &data)).await.unwrap();
        }
        for (index, size) in sizes.into_iter().enumerate() {
            let event = soon(received.recv()).await.unwrap();
            assert_eq!(event, (index as u64, size));
        }
    }
}

#[wirecall::service]
trait Archive {
    /// Blobs of these sizes.
    fn blobs(&self, sizes: Vec<usize>) -> impl futures::Stream<Item = Bytes>;
    /// The sizes of the blobs that come.
    async fn sizes(
        &self,
        blobs: wirecall::Streaming<Bytes>,
    ) -> Result<Vec<usize>, wirecall::Status>;
    /// Never ends, and tells when it is dropped.
    fn endless(&self) -> impl futures::Stream<Item = Bytes>;
}

#[derive(Clone, Default)]
struct Blobs(Arc<Notify>);

impl Archive for Blobs {
    fn blobs(&self, sizes: Vec<usize>) -> impl futures::Stream<Item = Bytes> {
        futures::stream::iter(sizes.into_iter().map(|size| pattern(size).into()))
    }

    async fn sizes(
        &self,
        mut blobs: wirecall::Streaming<Bytes>,
    ) -> Result<Vec<usize>, wirecall::Status> {
        let mut sizes = Vec::new();
        while let Some(blob) = blobs.next().await {
            sizes.push(blob?.len());
        }
        Ok(sizes)
    }

    fn endless(&self) -> impl futures::Stream<Item = Bytes> {
        struct OnDrop(Arc<Notify>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let on_drop = OnDrop(self.0.clone());
        futures::stream::repeat_with(move || {
            let _ = &on_drop;
            Bytes::from(vec![7; 300_000])
        })
    }
}

#[tokio::test]
async fn large_items_keep_their_order_in_both_directions() {
    let address = start(Server::builder().service(ArchiveServer::new(Blobs::default()))).await;
    let sizes = vec![1, 500_000, 2, 70_000, 70_000, 0, 1_000_000, 3];
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let archive = ArchiveClient::new(&client);
        let mut blobs = soon(archive.blobs(sizes.clone())).await.unwrap();
        for size in &sizes {
            let blob = soon(blobs.next()).await.unwrap().unwrap();
            assert!(blob == *pattern(*size), "{size}");
        }
        assert!(soon(blobs.next()).await.is_none());

        let source = sizes.clone().into_iter().map(|size| pattern(size).into());
        let counted = archive.sizes(futures::stream::iter(source));
        assert_eq!(soon(counted).await.unwrap(), sizes);
        idle(&client).await;
    }
}

#[tokio::test]
async fn dropping_a_stream_in_the_middle_of_an_item_ends_it() {
    let blobs = Blobs::default();
    let address = start(Server::builder().service(ArchiveServer::new(blobs.clone()))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let mut endless = soon(ArchiveClient::new(&client).endless()).await.unwrap();
        soon(endless.next()).await.unwrap().unwrap();
        drop(endless);
        soon(blobs.0.notified()).await;
        idle(&client).await;
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Album {
    title: String,
    pictures: Vec<Bytes>,
    places: Vec<u32>,
    cover: Option<Bytes>,
}

#[wirecall::service]
trait Albums {
    async fn album(&self, cx: &Context) -> Album;
    async fn attempt(&self) -> Result<Album, Status>;
}

struct Shelf(Album);

impl Albums for Shelf {
    async fn album(&self, cx: &Context) -> Album {
        cx.set_response_metadata("edition", "second").unwrap();
        self.0.clone()
    }

    async fn attempt(&self) -> Result<Album, Status> {
        // Once more, by a handler that has to wait.
        tokio::task::yield_now().await;
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn results_with_large_bytes_here_and_there_arrive_whole() {
    let picture = |length| Bytes::from(pattern(length));
    let album = Album {
        title: "between small and large".repeat(100),
        // Around the size from which on they are not copied, and one of them twice.
        pictures: [65_535, 65_536, 3, 0, 300_000, 1_000_000]
            .map(picture)
            .into(),
        places: (0..20_000).collect(),
        cover: Some(picture(300_000)),
    };
    let server = Server::builder()
        .service(AlbumsServer::new(Shelf(album.clone())))
        .kept_results(KeptResults::default().max_result_bytes(4 << 20));
    let address = start(server).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let albums = AlbumsClient::new(&client);
        for round in 0..3 {
            let (first, again, repeated) = soon(async {
                tokio::join!(
                    albums.album().with_metadata(),
                    albums.attempt(),
                    albums.attempt().idempotency_key(codec.subprotocol()),
                )
            })
            .await;
            let (first, metadata) = first.unwrap();
            assert_eq!(metadata.get("edition"), Some("second"));
            for result in [first, again.unwrap(), repeated.unwrap()] {
                assert!(result == album, "in round {round}, {codec:?}");
            }
        }
        idle(&client).await;
    }
}

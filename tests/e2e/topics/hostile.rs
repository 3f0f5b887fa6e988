//! What travels, and what peers may make of it.

use futures::StreamExt as _;
use serde_json::{Value, json};
use wirecall::{Code, Codec, Hub, Limits, Server, Topic, TopicSettings, Update};

use super::{Desk, FeedsClient, FeedsServer, next, no_topics, publish, subscribers};
use crate::{
    raw_client::{Socket, frames, open, send_text},
    raw_server::{RawServer, welcome},
    support::{soon, start},
};

/// A server of a hub whose topics keep four items, and a bare socket to it that has said HELLO.
async fn raw() -> (Hub, Socket) {
    let hub = Hub::new();
    hub.declare_topics("", TopicSettings::<u64>::default().history_items(4));
    let server = Server::builder()
        .hub(&hub)
        .limits(Limits::default().replay_bytes(0))
        .service(FeedsServer::new(Desk::of(&hub)));
    let mut socket = open(start(server).await, Codec::Json).await;
    send_text(&mut socket, "[0,{}]").await;
    assert_eq!(frames(&mut socket).await[0][0], 1);
    (hub, socket)
}

async fn subscribe(socket: &mut Socket, id: u64, options: Value) -> Vec<Value> {
    let request = json!([6, id, "Feeds.follow", options, ["a"]]);
    send_text(socket, &request.to_string()).await;
    frames(socket).await
}

/// W-TOPIC-1, W-TOPIC-2, W-TOPIC-3, W-TOPIC-4.
#[tokio::test]
async fn a_subscription_is_a_stream_that_says_where_it_is() {
    let (hub, mut socket) = raw().await;
    let topic: Topic<u64> = hub.topic("a");
    let epoch = topic.position().unwrap().epoch;
    publish(&topic, 6);
    let fresh = subscribe(&mut socket, 3, json!({"6": 2})).await;
    assert_eq!(fresh, [json!([17, 3, {"5": epoch, "7": 6}])]);
    let recovered = subscribe(&mut socket, 5, json!({"5": epoch, "7": 4})).await;
    assert_eq!(
        recovered,
        [
            json!([17, 5, {"5": epoch, "7": 4, "9": 1}]),
            json!([9, 5, [5, 5]]),
            json!([9, 5, [6, 6]]),
        ]
    );
    let gap = subscribe(&mut socket, 7, json!({"5": epoch, "7": 0})).await;
    assert_eq!(
        gap[0],
        json!([17, 7, {"5": epoch, "7": 2, "9": 2, "11": 2}])
    );
    assert_eq!(gap[1], json!([9, 7, [3, 3]]));
    publish(&topic, 1);
    assert_eq!(frames(&mut socket).await[0], json!([9, 3, [7, 7]]));
    send_text(&mut socket, "[[12,3],[12,5],[12,7]]").await;
    let mut ended = Vec::new();
    while ended.len() < 3 {
        ended.extend(frames(&mut socket).await);
    }
    assert!(
        ended.iter().all(|frame| frame[0] == 8 && frame[2] == 1),
        "{ended:?}"
    );
    subscribers(&topic, 0).await;
}

/// W-TOPIC-3.
#[tokio::test]
async fn a_position_that_cannot_be_is_a_gap_of_unknown_size() {
    let (hub, mut socket) = raw().await;
    let topic: Topic<u64> = hub.topic("a");
    let epoch = topic.position().unwrap().epoch;
    publish(&topic, 6);
    let begun = |id: u64| [json!([17, id, {"5": epoch, "7": 6, "9": 2}])];
    for (id, options) in [
        (3, json!({"5": epoch, "7": 7})),
        (5, json!({"5": epoch, "7": u64::MAX})),
        (7, json!({"5": epoch ^ 1, "7": 5})),
        (9, json!({"5": u64::MAX, "7": 0})),
    ] {
        assert_eq!(subscribe(&mut socket, id, options).await, begun(id));
    }
}

/// W-TOPIC-2.
#[tokio::test]
async fn half_a_position_or_one_that_is_no_number_counts_as_none() {
    let (hub, mut socket) = raw().await;
    let topic: Topic<u64> = hub.topic("a");
    let epoch = topic.position().unwrap().epoch;
    publish(&topic, 6);
    for (index, options) in [
        json!({"5": epoch}),
        json!({"7": 3}),
        json!({"5": epoch, "7": -1}),
        json!({"5": "x", "7": 3}),
        json!({"5": [epoch], "7": {"a": 3}}),
        json!({"5": 1.5, "7": null}),
    ]
    .into_iter()
    .enumerate()
    {
        let id = 3 + 2 * index as u64;
        let fresh = [json!([17, id, {"5": epoch, "7": 6}])];
        assert_eq!(subscribe(&mut socket, id, options).await, fresh);
    }
}

#[tokio::test]
async fn a_flood_of_subscriptions_ends_at_the_calls_in_flight_and_leaves_nothing() {
    let (hub, mut socket) = raw().await;
    let names = |index: u64| format!("{}", index % 7);
    let requests: Vec<_> = (1..=1500)
        .map(|slot| json!([6, slot * 2 + 1, "Feeds.follow", [names(slot)]]))
        .collect();
    send_text(&mut socket, &json!(requests).to_string()).await;
    let (mut opened, mut refused) = (0, 0);
    while opened + refused < 1500 {
        for frame in frames(&mut socket).await {
            match frame[0].as_u64() {
                Some(17) => opened += 1,
                Some(8) => {
                    assert_eq!(frame[2], 8);
                    refused += 1;
                }
                _ => panic!("{frame}"),
            }
        }
    }
    assert_eq!((opened, refused), (1024, 476));
    assert_eq!(hub.topics(), 7);
    let topic: Topic<u64> = hub.topic("3");
    let published = topic.publish(&1).unwrap();
    assert_eq!(published.sent, topic.subscribers());
    drop(socket);
    subscribers(&topic, 0).await;
    drop(topic);
    // It has a history.
    super::soon(async {
        while hub.topics() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_item_that_one_reader_does_not_take_ends_its_subscription_alone() {
    let hub = Hub::new();
    let server = Server::builder()
        .hub(&hub)
        .service(FeedsServer::new(Desk::of(&hub)));
    let address = start(server).await;
    let mut small = open(address, Codec::Json).await;
    // Bodies of up to 1,000 bytes.
    send_text(&mut small, r#"[[0,{"3":1000}],[6,3,"Feeds.texts",["a"]]]"#).await;
    let opened = frames(&mut small).await;
    let opened = match opened.len() {
        1 => frames(&mut small).await,
        _ => opened[1..].to_vec(),
    };
    assert_eq!(opened[0][0], 17);
    let client = crate::support::connect(address, Codec::MessagePack).await;
    let mut large = super::FeedsClient::new(&client).texts("a").await.unwrap();
    let topic: Topic<String> = hub.topic("a");
    for (bytes, sent) in [(10, 2), (2000, 1), (200_000, 1)] {
        let text = "x".repeat(bytes);
        let published = topic.publish(&text).unwrap();
        assert_eq!(published.sent, sent);
        let wirecall::Update::Item { value, .. } = super::next(&mut large).await else {
            panic!("a gap");
        };
        assert_eq!(value, text);
    }
    assert_eq!(
        frames(&mut small).await[0],
        json!([9, 3, [1, "xxxxxxxxxx"]])
    );
    let ended = frames(&mut small).await;
    assert_eq!((&ended[0][0], &ended[0][2]), (&json!(8), &json!(8)));
    drop((topic, large, small));
    no_topics(&hub).await;
}

/// W-TOPIC-5.
#[tokio::test]
async fn a_callee_that_counts_to_the_end_ends_its_subscription_alone() {
    let last = u64::MAX;
    for (opening, items, gap) in [
        (json!({"5": 1, "7": last}), vec![json!([last, 1])], None),
        (json!({"5": 1, "7": last}), vec![json!([0, 1])], None),
        (
            json!({"5": 1, "7": 3}),
            vec![json!([last]), json!([last, 1])],
            Some(last - 3),
        ),
    ] {
        let server = RawServer::bind().await;
        let (client, mut accepted) = server
            .client_of(Codec::Json, |client| client, &[welcome()])
            .await;
        let follow = tokio::spawn({
            let feeds = FeedsClient::new(&client);
            async move { feeds.follow("a").await }
        });
        let id = accepted.next_call().await;
        accepted.send(&[json!([17, id, opening])]).await;
        let mut feed = soon(follow).await.unwrap().unwrap();
        let items: Vec<_> = items.iter().map(|item| json!([9, id, item])).collect();
        accepted.send(&items).await;
        if gap.is_some() {
            assert_eq!(next(&mut feed).await, Update::Gap { missed: gap });
        }
        let ended = soon(feed.next()).await.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::INTERNAL);
        assert_eq!(accepted.next().await, json!([12, id]));
        assert!(!client.peer().is_closed());
    }
}

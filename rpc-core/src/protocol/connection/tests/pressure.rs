//! Notifications to a peer that is behind.

use super::*;
use crate::{
    body,
    method::{Methods, StubMethod},
    pressure::Pressure,
    protocol::{EncodedNotification, Options, Told, resume::Resume},
};

const WAITS: Told = Told::Waits { replaces: false };
const REPLACES: Told = Told::Waits { replaces: true };

/// A method of this behaviour.
fn method(name: &'static str, pressure: Pressure) -> Method {
    let methods = Methods::new("Shapes", &[StubMethod::new(name).pressure(pressure)]);
    methods.get(0).clone()
}

/// Both ends, of which the dialler lets so many notifications wait for it.
fn pair(codec: Codec, credit: usize) -> Pair {
    Pair::new(codec, Limits::default().notification_credit(credit))
}

impl Pair {
    fn encoded(&self, method: &Method, arguments: &(&str, u64)) -> EncodedNotification {
        let mut body = Vec::new();
        body::encode(self.codec, arguments, &mut body).expect("encodes");
        EncodedNotification::new(self.codec, method, &mut body).expect("small enough")
    }

    /// The acceptor tells the dialler.
    fn tell(&mut self, method: &Method, key: &str, number: u64) -> Told {
        let encoded = self.encoded(method, &(key, number));
        let told = self.ends[ACCEPTOR].notify_encoded(method, &encoded);
        told.expect("an open connection")
    }

    /// The numbers of the notifications in these messages, in order.
    fn numbers(&self, messages: &[Bytes]) -> Vec<u64> {
        let frames = messages
            .iter()
            .flat_map(|message| Frames::new(self.codec, message))
            .map(|frame| frame.expect("a frame"));
        frames
            .filter(|frame| matches!(frame.head, Head::Notify { .. } | Head::Volatile { .. }))
            .map(|frame| {
                let (_, number): (String, u64) =
                    body::decode(self.codec, frame.payload).expect("arguments");
                number
            })
            .collect()
    }

    /// The numbers of those that the acceptor writes now.
    fn written(&mut self) -> Vec<u64> {
        let mut messages = Vec::new();
        while self.ends[ACCEPTOR].has_output() {
            messages.extend(self.pump(ACCEPTOR));
        }
        self.numbers(&messages)
    }

    /// The dialler has handled so many, and says so.
    fn handle(&mut self, notifications: usize) {
        for _ in 0..notifications {
            self.ends[DIALLER].notification_handled();
        }
        self.pump(DIALLER);
    }

    /// The connection breaks, and what was written last is lost.
    fn suspend(&mut self) {
        self.ends[ACCEPTOR].suspend();
        self.ends[DIALLER].ask_to_resume();
        self.take(DIALLER);
    }

    /// The session goes on.
    fn resume(&mut self) {
        let sent = self.ends[DIALLER].outbox.sent();
        let resume = Resume {
            token: ResumeToken::new("AAAA"),
            received: self.ends[DIALLER].session.received,
            sent,
        };
        let offer = Offer {
            token: ResumeToken::new("BBBB"),
            window: Duration::from_secs(60),
        };
        let resumed = self.ends[ACCEPTOR].resume(&resume, offer, &mut Events::default());
        resumed.expect("it goes on");
    }
}

/// W-NOTE-4: without credit, and what is not volatile has none left.
#[test]
fn a_volatile_notification_takes_no_credit() {
    for codec in Codec::ALL {
        let mut pair = pair(codec, 2);
        let volatile = method("told_gone", Pressure::Volatile);
        let plain = method("told_plain", Pressure::Wait);
        for number in 0..5 {
            assert_eq!(pair.tell(&volatile, "a", number), Told::Queued);
        }
        let told = [10, 11, 12].map(|number| pair.tell(&plain, "a", number));
        assert_eq!(told, [Told::Queued, Told::Queued, Told::Behind]);
        let mut written = pair.written();
        written.sort_unstable();
        assert_eq!(written, [0, 1, 2, 3, 4, 10, 11]);
    }
}

/// W-RESUME-6: what was counted comes again, and nothing of what is volatile.
#[test]
fn a_volatile_notification_goes_with_its_socket() {
    for codec in Codec::ALL {
        let mut pair = Pair::with_session(codec);
        let volatile = method("told_gone", Pressure::Volatile);
        let plain = method("told_plain", Pressure::Wait);
        for number in 0..6 {
            let method = if number % 2 == 0 { &volatile } else { &plain };
            assert_eq!(pair.tell(method, "a", number), Told::Queued);
        }
        // These are lost, and those that follow are not even written.
        let lost = pair.take(ACCEPTOR);
        assert_eq!(pair.numbers(&lost).len(), 6);
        pair.tell(&volatile, "a", 6);
        pair.tell(&plain, "a", 7);
        pair.suspend();
        assert_eq!(pair.tell(&volatile, "a", 8), Told::Dropped);
        assert_eq!(pair.tell(&plain, "a", 9), Told::Queued);
        pair.resume();
        assert_eq!(pair.written(), [1, 3, 5, 7, 9]);
        assert_eq!(pair.tell(&volatile, "a", 10), Told::Queued);
        assert_eq!(pair.written(), [10]);
    }
}

/// W-ORD-2: not even where what is counted has to wait.
#[test]
fn a_volatile_notification_does_not_overtake_the_name_of_its_method() {
    let mut pair = Pair::unopened(Codec::MessagePack, Limits::default().replay_bytes(1));
    pair.ends[ACCEPTOR].offer_resume(Offer {
        token: ResumeToken::new("AAAA"),
        window: Duration::from_secs(60),
    });
    pair.settle();
    pair.tell(&method("told_plain", Pressure::Wait), "a", 1);
    pair.pump(ACCEPTOR);
    // Nothing else that is counted goes before that is acknowledged.
    let volatile = method("told_gone", Pressure::Volatile);
    assert_eq!(pair.tell(&volatile, "a", 2), Told::Queued);
    assert!(!pair.ends[ACCEPTOR].has_output());
    pair.ends[ACCEPTOR].counted_by_peer(2).expect("they came");
    let messages = pair.pump(ACCEPTOR);
    let kinds: Vec<_> = pair.heads(&messages).iter().map(Head::kind).collect();
    assert_eq!(kinds, [16, 14]);
}

#[test]
fn volatile_notifications_that_cannot_go_are_dropped_and_hold_up_no_call() {
    let mut pair = pair(Codec::MessagePack, 256);
    let limit = Limits::default().outbound_queue_bytes / 4;
    let volatile = method("told_gone", Pressure::Volatile);
    let key = "k".repeat(1000);
    let sent = (0..10_000)
        .take_while(|number| pair.tell(&volatile, &key, *number) == Told::Queued)
        .count();
    assert!((250..270).contains(&sent), "{sent}");
    let waiting = pair.ends[ACCEPTOR].waiting_bytes();
    assert!((limit - 1100..limit + 100).contains(&waiting), "{waiting}");
    assert!(!pair.ends[ACCEPTOR].is_congested());
    assert_eq!(pair.written(), (0..sent as u64).collect::<Vec<_>>());
    assert!(pair.ends[ACCEPTOR].outbox.volatile_bytes() == 0);
    assert_eq!(pair.tell(&volatile, &key, 0), Told::Queued);
}

/// W-CHUNK-3.
#[test]
fn a_volatile_notification_that_needs_pieces_is_refused() {
    let volatile = method("told_gone", Pressure::Volatile);
    for codec in Codec::ALL {
        for (bytes, fits) in [(64 << 10, true), ((64 << 10) + 1, false)] {
            let encoded = EncodedNotification::new(codec, &volatile, &mut vec![b'1'; bytes]);
            assert_eq!(encoded.is_ok(), fits, "{bytes}");
            if let Err(status) = encoded {
                assert_eq!(status.code(), Code::RESOURCE_EXHAUSTED);
                assert!(status.message().contains("Shapes.told_gone"), "{status}");
            }
        }
    }
}

#[test]
fn what_becomes_of_a_notification_to_a_peer_that_is_behind_its_method_says() {
    for codec in Codec::ALL {
        for (pressure, told, comes) in [
            (Pressure::Wait, [Told::Behind; 4], vec![]),
            (Pressure::DropNewest, [Told::Dropped; 4], vec![]),
            (Pressure::DropOldest, [WAITS; 4], vec![2, 3, 4, 5]),
            (Pressure::Disconnect, [Told::Disconnect; 4], vec![]),
            (
                Pressure::Conflate(None),
                [WAITS, REPLACES, REPLACES, REPLACES],
                vec![5],
            ),
            (
                Pressure::Conflate(Some(0)),
                [WAITS, WAITS, REPLACES, REPLACES],
                vec![4, 5],
            ),
            // No two are alike in that.
            (Pressure::Conflate(Some(1)), [WAITS; 4], vec![2, 3, 4, 5]),
        ] {
            let mut pair = pair(codec, 2);
            let method = method("told", pressure);
            for number in 0..2 {
                assert_eq!(pair.tell(&method, "a", number), Told::Queued);
            }
            let found = [("a", 2), ("b", 3), ("a", 4), ("b", 5)]
                .map(|(key, number)| pair.tell(&method, key, number));
            assert_eq!(found, told, "{pressure:?}");
            assert_eq!(pair.written(), [0, 1]);
            let mut came = Vec::new();
            for _ in 0..4 {
                pair.handle(1);
                came.extend(pair.written());
            }
            assert_eq!(came, comes, "{pressure:?}");
            assert!(pair.ends[ACCEPTOR].backlog.is_none());
        }
    }
}

/// W-ORD-1.
#[test]
fn a_notification_does_not_overtake_those_of_its_method_that_wait() {
    let mut pair = pair(Codec::MessagePack, 2);
    let method = method("told", Pressure::DropOldest);
    let mut came = Vec::new();
    for number in 0..40 {
        pair.tell(&method, "a", number);
        if number % 3 == 0 {
            came.extend(pair.written());
            pair.handle(1);
        }
    }
    for _ in 0..40 {
        pair.handle(1);
        came.extend(pair.written());
    }
    assert_eq!(came, (0..40).collect::<Vec<_>>());
}

#[test]
fn those_who_wait_for_credit_and_what_is_kept_take_turns() {
    let mut pair = pair(Codec::MessagePack, 8);
    let kept = method("told_kept", Pressure::DropOldest);
    let plain = method("told_plain", Pressure::Wait);
    for number in 0..14 {
        pair.tell(&kept, "a", number);
    }
    assert_eq!(pair.written(), (0..8).collect::<Vec<_>>());
    let notify = |pair: &mut Pair, ticket, flag: &Arc<Flag>| {
        let mut body = Vec::new();
        body::encode(Codec::MessagePack, &("b", 100_u64), &mut body).expect("encodes");
        let call = Outgoing {
            method: &plain,
            options: Options::EMPTY,
            body: &mut body,
            streams: None,
            priority: Priority::Normal,
        };
        let waker = Waker::from(flag.clone());
        pair.ends[ACCEPTOR].notify(call, None, &waker, ticket, &mut Vec::new())
    };
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let flag = Arc::new(Flag::default());
            match notify(&mut pair, None, &flag) {
                Ok(Admission::Wait(ticket)) => (flag, ticket),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    // Four at a time: two for those who wait, and two for what is kept.
    pair.handle(4);
    let admitted = |(flag, _): &&(Arc<Flag>, _)| flag.0.load(Ordering::Relaxed);
    assert_eq!(waiting.iter().filter(admitted).count(), 2);
    assert_eq!(pair.written(), [8, 9]);
    for (flag, ticket) in &waiting[..2] {
        let sent = notify(&mut pair, Some(*ticket), flag);
        assert!(matches!(sent, Ok(Admission::Sent(()))), "{sent:?}");
    }
    assert_eq!(pair.written(), [100, 100]);
    pair.handle(4);
    assert_eq!(waiting.iter().filter(admitted).count(), 3);
    assert_eq!(pair.written(), [10, 11, 12]);
}

/// A session whose peer has gone, or reads nothing, holds no more than its limits say.
#[test]
fn what_waits_for_a_peer_is_bounded_whatever_its_methods_say() {
    let limits = Limits::default()
        .notification_credit(1 << 20)
        .outbound_queue_bytes(100_000)
        .backlog_bytes(50_000);
    for is_suspended in [false, true] {
        let mut pair = Pair::unopened(Codec::MessagePack, limits.clone());
        pair.ends[ACCEPTOR].offer_resume(Offer {
            token: ResumeToken::new("AAAA"),
            window: Duration::from_secs(60),
        });
        pair.settle();
        if is_suspended {
            pair.suspend();
        }
        let methods = [
            method("told_plain", Pressure::Wait),
            method("told_gone", Pressure::Volatile),
            method("told_newest", Pressure::DropNewest),
            method("told_oldest", Pressure::DropOldest),
            method("told_latest", Pressure::Conflate(Some(1))),
            method("told_one", Pressure::Conflate(None)),
        ];
        let key = "k".repeat(500);
        // The frame that is one too many.
        let most = 100_000 + 25_000 + 50_000 + 600;
        for number in 0..2_000 {
            for method in &methods {
                pair.tell(method, &key, number);
            }
            let waiting = pair.ends[ACCEPTOR].waiting_bytes();
            assert!(waiting <= most, "{waiting} bytes wait");
        }
        assert!(pair.ends[ACCEPTOR].waiting_bytes() > 149_000);
        if is_suspended {
            pair.resume();
        }
        pair.settle();
        assert_eq!(pair.ends[ACCEPTOR].waiting_bytes(), 0);
    }
}

/// Their large bodies count, too.
#[test]
fn large_notifications_that_wait_are_as_bounded_as_others() {
    let mut pair = pair(Codec::MessagePack, 256);
    let limit = Limits::default().outbound_queue_bytes;
    let plain = method("told_plain", Pressure::Wait);
    let large = |pair: &mut Pair| {
        let mut body = vec![0; 300 << 10];
        let encoded = EncodedNotification::new(Codec::MessagePack, &plain, &mut body);
        let encoded = encoded.expect("a large one");
        pair.ends[ACCEPTOR].notify_encoded(&plain, &encoded)
    };
    for _ in 0..4 {
        assert_eq!(large(&mut pair), Ok(Told::Queued));
    }
    assert_eq!(large(&mut pair), Ok(Told::Behind));
    let waiting = pair.ends[ACCEPTOR].waiting_bytes();
    assert!((limit..limit + (300 << 10)).contains(&waiting), "{waiting}");
    pair.settle();
    assert_eq!(pair.ends[ACCEPTOR].waiting_bytes(), 0);
    assert_eq!(large(&mut pair), Ok(Told::Queued));
}

#[test]
fn a_connection_that_is_closed_keeps_nothing() {
    let mut pair = pair(Codec::MessagePack, 1);
    let method = method("told", Pressure::DropOldest);
    for number in 0..5 {
        pair.tell(&method, "a", number);
    }
    assert!(pair.ends[ACCEPTOR].waiting_bytes() > 0);
    let reason = crate::CloseReason::local(crate::CloseCode::NORMAL, "");
    pair.ends[ACCEPTOR].close(reason, &mut Vec::new());
    assert_eq!(pair.ends[ACCEPTOR].waiting_bytes(), 0);
    let encoded = pair.encoded(&method, &("a", 5));
    let told = pair.ends[ACCEPTOR].notify_encoded(&method, &encoded);
    assert_eq!(told.map_err(|status| status.code()), Err(Code::UNAVAILABLE));
}

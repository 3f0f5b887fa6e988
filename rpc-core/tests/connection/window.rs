//! The window that all bodies of a connection share.

use wirecall_core::{
    Codec,
    protocol::{CallId, Frame, Head, Side},
};

use crate::end::{End, Written, limits, ping};

const WINDOW: u64 = 1 << 20;

/// A frame that nobody waits for: it is of a call that there is not.
fn ignored(payload: &[u8]) -> Frame<'_> {
    let id = CallId::new(99);
    Frame::with_payload(Head::Item { id }, payload)
}

/// W-FLOW-8: given back when a body is handed over, half of the window at a time.
#[test]
fn the_window_is_given_back_when_half_of_it_has_been_taken_in() {
    for codec in Codec::ALL {
        let mut end = End::acceptor(codec, limits());
        let payload = vec![b'1'; 60_000];
        let mut granted = 0;
        let mut sent = 0;
        for _ in 0..200 {
            end.receive(&[ignored(&payload)])
                .expect("within the window");
            sent += 60_000;
            for written in end.output() {
                let Written::Credit {
                    id: 0,
                    items: 0,
                    bytes,
                } = written
                else {
                    panic!("{written:?}");
                };
                assert!(bytes >= WINDOW / 2);
                granted += bytes;
            }
            assert!(granted + WINDOW * 3 / 4 >= sent, "{granted} of {sent}");
        }
    }
}

/// W-FLOW-8: a wider window is granted at once, since both ends know the narrowest.
#[test]
fn a_wider_window_is_granted_behind_welcome() {
    for codec in Codec::ALL {
        let limits = limits().connection_window_bytes(4 << 20);
        let mut end = End::new(Side::Acceptor, codec, limits);
        end.receive(&[Frame::new(Head::Hello)]).expect("HELLO");
        let wider = Written::Credit {
            id: 0,
            items: 0,
            bytes: 3 << 20,
        };
        assert_eq!(end.output(), [Written::Other(1), wider]);
    }
}

/// W-FLOW-8: control frames are outside the window, and cannot shut it.
#[test]
fn control_frames_take_nothing_of_the_window() {
    for codec in Codec::ALL {
        let mut end = End::acceptor(codec, limits());
        let pings: Vec<_> = (0..20_000).map(ping).collect();
        for _ in 0..20 {
            end.receive(&pings).expect("PINGs");
            let output = end.output();
            assert!(matches!(output[..], [Written::Pong { .. }, ..]));
            assert!(
                !output
                    .iter()
                    .any(|w| matches!(w, Written::Credit { id: 0, .. }))
            );
        }
    }
}

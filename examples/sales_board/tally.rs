//! What both ways have cost, side by side.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    board::Board,
    polling,
    relay::{Direction, Relay},
};

/// What some boards have cost.
pub struct Tally {
    messages: u64,
    not_shown: u64,
    to_boards: u64,
    from_boards: u64,
    mean_age: Duration,
    worst_age: Duration,
}

impl Tally {
    /// Of the boards behind a relay. Ages are those of the `awake` ones alone: the other one has waited
    /// for itself.
    pub fn new(reports: u64, boards: &[Arc<Board>], awake: &[Arc<Board>], relay: &Relay) -> Self {
        let shown = |board: &Arc<Board>| board.ages().len() as u64;
        let messages = boards.iter().map(|b| b.messages.load(Ordering::Relaxed));
        let ages: Vec<_> = awake.iter().flat_map(|board| board.ages()).collect();
        let count = u32::try_from(ages.len()).unwrap_or(u32::MAX).max(1);
        Tally {
            messages: messages.sum(),
            not_shown: boards.iter().map(|board| reports - shown(board)).sum(),
            to_boards: relay.forwarded(Direction::ToClient),
            from_boards: relay.forwarded(Direction::ToServer),
            mean_age: ages.iter().sum::<Duration>() / count,
            worst_age: ages.into_iter().max().unwrap_or_default(),
        }
    }

    fn bytes(&self) -> u64 {
        self.to_boards + self.from_boards
    }
}

/// All bytes that went through a relay, both ways.
pub fn total_bytes(relay: &Relay) -> u64 {
    relay.forwarded(Direction::ToClient) + relay.forwarded(Direction::ToServer)
}

/// Prints what was counted for so many boards in this time.
pub fn print_measured(pushed: &Tally, polled: &Tally, boards: usize, open: Duration) {
    println!("\nmeasured, for {boards} boards in {open:.1?}:");
    println!("{:32}{:>12}{:>12}", "", "pushed", "polled");
    let row = |what: &str, pushed: String, polled: String| {
        println!("{what:32}{pushed:>12}{polled:>12}");
    };
    let number = |what, of: fn(&Tally) -> u64| {
        row(what, of(pushed).to_string(), of(polled).to_string());
    };
    let age = |what, of: fn(&Tally) -> Duration| {
        let text = |tally| format!("{:.1} ms", milliseconds(of(tally)));
        row(what, text(pushed), text(polled));
    };
    number("messages or requests", |tally| tally.messages);
    number("reports that were not shown", |tally| tally.not_shown);
    number("bytes to the boards", |tally| tally.to_boards);
    number("bytes from the boards", |tally| tally.from_boards);
    number("bytes in all", Tally::bytes);
    age("age of a figure, mean", |tally| tally.mean_age);
    age("age of a figure, worst", |tally| tally.worst_age);
    println!(
        "Messages are counted by the boards: each has one figure, a request is for all that are new.\n\
         Bytes are counted by relays in front of them: all that TCP carries, with upgrades, headers\n\
         and acknowledgements. What branches send is in neither. Pushed is MessagePack. Polled is\n\
         JSON, every {:?}, over a connection that is kept, with 304 when nothing is new. Ages are\n\
         those at the boards that were awake all day. What was not shown was replaced by a later\n\
         figure of its branch.",
        polling::EVERY
    );
}

/// Prints what it would have taken to poll until figures are no older than those that were pushed.
pub fn print_computed(pushed: &Tally, boards: usize, open: Duration, no_change: u64) {
    let every = pushed.worst_age.max(Duration::from_millis(1));
    let rounds = (open.as_secs_f64() / every.as_secs_f64()).ceil() as u64;
    let requests = rounds * boards as u64;
    println!(
        "\ncomputed, for polling that is as fresh as the push was at worst:\n\
         a request of each board every {:.1} ms: {requests} requests and at least {} bytes,\n\
         since one has {no_change} with its answer if nothing is new (measured)",
        milliseconds(every),
        requests * no_change
    );
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

//! A fair queue of callers that wait for room: a slot in flight, or credit for a notification.

use std::{
    collections::VecDeque,
    task::{Poll, Waker},
};

use tokio::time::Instant;

use super::{calls::earlier, slots::Slots};

/// What a waiter asks its turn with.
pub(crate) type Ticket = usize;

/// The queue. Whoever is let in holds one place until it has taken it or left.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    tickets: Slots,
    places: Vec<Place>,
    /// In order; those who have left stay until it would be their turn.
    queue: VecDeque<Ticket>,
    waiting: usize,
    admitted: usize,
    next_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    waker: Option<Waker>,
    deadline: Option<Instant>,
    admitted: bool,
    has_left: bool,
}

impl Waiters {
    /// Whether somebody has waited longer than one who comes now, or was let in and has not yet
    /// taken its place.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How long the queue is, with those who have left it since it was last tidied up.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Places that are promised.
    #[inline]
    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Joins at the end.
    pub(super) fn join(&mut self, waker: Waker, deadline: Option<Instant>) -> Ticket {
        let ticket = self.tickets.take();
        let place = Place {
            waker: Some(waker),
            deadline,
            admitted: false,
            has_left: false,
        };
        self.waiting += 1;
        match self.places.get_mut(ticket) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        self.queue.push_back(ticket);
        if let Some(deadline) = deadline {
            earlier(&mut self.next_deadline, deadline);
        }
        ticket
    }

    /// Ready once the ticket's turn has come. Its place is kept until it leaves.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        let place = &mut self.places[ticket];
        if place.admitted {
            return Poll::Ready(());
        }
        match &mut place.waker {
            Some(waiting) => waiting.clone_from(waker),
            None => place.waker = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// Gives the ticket back. Says whether it was its turn, so that a place may be taken.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let place = &mut self.places[ticket];
        place.waker = None;
        let admitted = place.admitted;
        if admitted {
            self.admitted -= 1;
            self.tickets.give_back(ticket);
        } else {
            place.has_left = true;
            self.waiting -= 1;
            if self.queue.len() > 2 * self.waiting + 64 {
                self.tidy_up();
            }
        }
        admitted
    }

    /// Forgets those who have left.
    fn tidy_up(&mut self) {
        let Waiters {
            queue,
            places,
            tickets,
            ..
        } = self;
        queue.retain(|ticket| {
            let has_left = places[*ticket].has_left;
            if has_left {
                tickets.give_back(*ticket);
            }
            !has_left
        });
    }

    /// Lets the first in.
    pub(super) fn admit(&mut self, wakers: &mut Vec<Waker>) {
        while let Some(ticket) = self.queue.pop_front() {
            let place = &mut self.places[ticket];
            if place.has_left {
                self.tickets.give_back(ticket);
                continue;
            }
            place.admitted = true;
            self.waiting -= 1;
            self.admitted += 1;
            wakers.extend(place.waker.take());
            return;
        }
    }

    /// Wakes those whose deadline has passed, so that they leave.
    pub(super) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.next_deadline = None;
        for ticket in &self.queue {
            let place = &mut self.places[*ticket];
            match place.deadline {
                Some(deadline) if deadline <= now => wakers.extend(place.waker.take()),
                Some(deadline) => earlier(&mut self.next_deadline, deadline),
                None => {}
            }
        }
    }

    #[inline]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Wakes everyone: the connection is over.
    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        for ticket in &self.queue {
            wakers.extend(self.places[*ticket].waker.take());
        }
        self.next_deadline = None;
    }
}

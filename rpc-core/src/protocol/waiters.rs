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
    waiting: usize,
    admitted: usize,
    /// Made when somebody has to wait: most connections never have one.
    queue: Option<Box<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    tickets: Slots,
    places: Vec<Place>,
    /// In order; those who have left stay until it would be their turn.
    order: VecDeque<Ticket>,
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
        self.queue.as_ref().map_or(0, |queue| queue.order.len())
    }

    /// Places that are promised.
    #[inline]
    pub(super) fn admitted(&self) -> usize {
        self.admitted
    }

    /// Joins at the end.
    pub(super) fn join(&mut self, waker: Waker, deadline: Option<Instant>) -> Ticket {
        self.waiting += 1;
        let queue = self.queue.get_or_insert_default();
        queue.join(waker, deadline)
    }

    /// Ready once the ticket's turn has come. Its place is kept until it leaves.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        let queue = self.queue.get_or_insert_default();
        let place = &mut queue.places[ticket];
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
        let queue = self.queue.get_or_insert_default();
        let place = &mut queue.places[ticket];
        place.waker = None;
        let admitted = place.admitted;
        if admitted {
            self.admitted -= 1;
            queue.tickets.give_back(ticket);
        } else {
            place.has_left = true;
            self.waiting -= 1;
            if queue.order.len() > 2 * self.waiting + 64 {
                queue.tidy_up();
            }
        }
        admitted
    }

    /// Lets the first in.
    pub(super) fn admit(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(queue) = &mut self.queue
            && queue.admit(wakers)
        {
            self.waiting -= 1;
            self.admitted += 1;
        }
    }

    /// Wakes those whose deadline has passed, so that they leave.
    pub(super) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        if let Some(queue) = &mut self.queue {
            queue.expire(now, wakers);
        }
    }

    #[inline]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.queue.as_ref()?.next_deadline
    }

    /// Wakes everyone: the connection is over.
    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(queue) = &mut self.queue {
            queue.wake_all(wakers);
        }
    }
}

impl Queue {
    fn join(&mut self, waker: Waker, deadline: Option<Instant>) -> Ticket {
        let ticket = self.tickets.take();
        let place = Place {
            waker: Some(waker),
            deadline,
            admitted: false,
            has_left: false,
        };
        match self.places.get_mut(ticket) {
            Some(free) => *free = place,
            None => self.places.push(place),
        }
        self.order.push_back(ticket);
        if let Some(deadline) = deadline {
            earlier(&mut self.next_deadline, deadline);
        }
        ticket
    }

    /// Forgets those who have left.
    fn tidy_up(&mut self) {
        let Queue {
            order,
            places,
            tickets,
            ..
        } = self;
        order.retain(|ticket| {
            let has_left = places[*ticket].has_left;
            if has_left {
                tickets.give_back(*ticket);
            }
            !has_left
        });
    }

    /// Says whether there was somebody to be let in.
    fn admit(&mut self, wakers: &mut Vec<Waker>) -> bool {
        while let Some(ticket) = self.order.pop_front() {
            let place = &mut self.places[ticket];
            if place.has_left {
                self.tickets.give_back(ticket);
                continue;
            }
            place.admitted = true;
            wakers.extend(place.waker.take());
            return true;
        }
        false
    }

    fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.next_deadline = None;
        for ticket in &self.order {
            let place = &mut self.places[*ticket];
            match place.deadline {
                Some(deadline) if deadline <= now => wakers.extend(place.waker.take()),
                Some(deadline) => earlier(&mut self.next_deadline, deadline),
                None => {}
            }
        }
    }

    fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        for ticket in &self.order {
            wakers.extend(self.places[*ticket].waker.take());
        }
        self.next_deadline = None;
    }
}

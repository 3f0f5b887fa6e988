//! Where the reports come in and the figures come from.

use std::time::Instant;

use tokio::sync::watch;
use wirecall::{Hub, Status, Topic, TopicSettings};

use super::contract::{Figure, Figures, Sales, reports};

#[derive(Clone)]
pub struct Headquarters {
    opening: Instant,
    figures: watch::Sender<Figures>,
    changes: Topic<Figure>,
}

impl Headquarters {
    pub fn new(hub: &Hub, opening: Instant) -> Self {
        let turnover = TopicSettings::default()
            .conflate_by(|figure: &Figure| figure.branch.clone())
            // All of a day, for boards whose session was lost.
            .history_items(1000);
        hub.declare_topics("turnover", turnover);
        Headquarters {
            opening,
            figures: watch::Sender::default(),
            changes: hub.topic("turnover"),
        }
    }

    pub fn all(&self) -> Figures {
        self.figures.borrow().clone()
    }

    /// Waits until that many reports have come in.
    pub async fn reported(&self, count: u64) {
        let mut figures = self.figures.subscribe();
        // The sender is ours.
        let _ = figures.wait_for(|figures| reports(figures) >= count).await;
    }
}

impl Sales for Headquarters {
    async fn report(&self, branch: &str, cents: u64) -> Result<(), Status> {
        let mut published = Ok(());
        self.figures.send_modify(|figures| {
            let figure = figures.entry(branch.to_owned()).or_insert(Figure {
                branch: branch.to_owned(),
                cents: 0,
                reports: 0,
                reported_us: 0,
            });
            figure.cents += cents;
            figure.reports += 1;
            figure.reported_us = self.opening.elapsed().as_micros() as u64;
            // Under the lock: the last one that is published is to be the last one that there is.
            published = self.changes.publish(figure).map(drop);
        });
        published
    }

    async fn figures(&self) -> Vec<Figure> {
        self.all().into_values().collect()
    }

    async fn watch(&self) -> Topic<Figure> {
        self.changes.clone()
    }
}

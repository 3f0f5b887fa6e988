//! A board on a wall, and one of the two ways to keep it up to date; `polling` is the other.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::{sync::watch, time::timeout};
use wirecall::{Client, Subscription, Update};

use super::{
    Failure,
    contract::{Figure, Figures, SalesClient},
};

pub struct Board {
    pub name: &'static str,
    opening: Instant,
    figures: watch::Sender<Figures>,
    /// How old each figure was when it was shown.
    ages: Mutex<Vec<Duration>>,
    /// Messages with a figure, or requests for all of them.
    pub messages: AtomicU64,
    /// Figures that were left out for it, since later ones have replaced them.
    pub replaced: AtomicU64,
    /// Whether people read it in the terminal.
    is_printed: bool,
}

impl Board {
    pub fn new(name: &'static str, opening: Instant, is_printed: bool) -> Arc<Self> {
        Arc::new(Board {
            name,
            opening,
            figures: watch::Sender::default(),
            ages: Mutex::default(),
            messages: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            is_printed,
        })
    }

    /// Shows a figure, unless it has shown it already, or a later one.
    pub fn show(&self, figure: Figure) {
        self.figures.send_if_modified(|figures| {
            let shown = figures.get(&figure.branch);
            if shown.is_some_and(|shown| shown.reports >= figure.reports) {
                return false;
            }
            let now = self.opening.elapsed();
            let age = now.saturating_sub(Duration::from_micros(figure.reported_us));
            let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
            ages.push(age);
            if self.is_printed {
                let turnover = euros(figure.cents);
                let now = now.as_secs_f64();
                println!("{now:6.2} s  {:<10}{turnover:>10}", figure.branch);
            }
            figures.insert(figure.branch.clone(), figure);
            true
        });
    }

    /// Waits until it shows these figures.
    pub async fn shows(&self, expected: &Figures) -> Result<(), String> {
        let mut figures = self.figures.subscribe();
        let same = figures.wait_for(|figures| figures == expected);
        match timeout(Duration::from_secs(5), same).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("the board in the {} shows others", self.name)),
        }
    }

    pub fn ages(&self) -> Vec<Duration> {
        let ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.clone()
    }
}

/// What keeps a board up to date by push.
pub struct Follower {
    board: Arc<Board>,
    sales: SalesClient,
    changes: Subscription<Figure>,
}

impl Follower {
    /// Subscribes, and shows what there is.
    pub async fn begin(board: Arc<Board>, url: String) -> Result<Self, Failure> {
        let client = Client::connect(url).await?;
        let sales = SalesClient::new(&client);
        // In this order nothing is missing in between. What comes twice is shown once.
        let follower = Follower {
            changes: sales.watch().await?,
            board,
            sales,
        };
        show_all(&follower.sales, &follower.board).await?;
        Ok(follower)
    }

    /// Shows what changes, for as long as the program runs.
    pub async fn run(mut self) -> Result<(), Failure> {
        while let Some(update) = self.changes.next().await {
            match update? {
                Update::Item { value, .. } => {
                    self.board.messages.fetch_add(1, Ordering::Relaxed);
                    self.board.show(value);
                }
                Update::Recovered => {}
                // Later figures of the same branches follow. With a history that is shorter than the
                // day a board would have to ask for all of them here, too.
                Update::Gap {
                    missed: Some(missed),
                } => {
                    self.board.replaced.fetch_add(missed, Ordering::Relaxed);
                }
                // The server was started anew.
                Update::Gap { missed: None } => show_all(&self.sales, &self.board).await?,
            }
        }
        Err("the topic has ended".into())
    }
}

async fn show_all(sales: &SalesClient, board: &Board) -> Result<(), Failure> {
    for figure in sales.figures().await? {
        board.show(figure);
    }
    Ok(())
}

pub fn euros(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

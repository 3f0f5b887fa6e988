//! What the headquarters, its branches and its boards agree on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wirecall::{Status, Topic};

/// What the headquarters does for branches and boards.
#[wirecall::service]
pub trait Sales {
    /// Adds to a branch's turnover of the day.
    async fn report(&self, branch: &str, cents: u64) -> Result<(), Status>;

    /// The figures of all branches.
    async fn figures(&self) -> Vec<Figure>;

    /// Each figure that changes from now on. For a board that does not take them only the latest of
    /// each branch waits. It begins with credit for two, which is enough to show that.
    #[rpc(credit(items = 2))]
    async fn watch(&self) -> Topic<Figure>;
}

/// What a branch has sold today, as far as it has reported it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub branch: String,
    pub cents: u64,
    /// How many reports that was.
    pub reports: u64,
    /// When the last one came, in microseconds since the opening.
    pub reported_us: u64,
}

/// By branch.
pub type Figures = BTreeMap<String, Figure>;

/// How many reports these are of.
pub fn reports(figures: &Figures) -> u64 {
    figures.values().map(|figure| figure.reports).sum()
}

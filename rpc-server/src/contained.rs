//! Code of the application's, run so that it does no harm: bounded in time, and with its panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::time::timeout;

/// What the future ends with. Nothing, if it panics, which the panic hook has reported, or if it has
/// not ended in time; then it is dropped.
pub(crate) async fn contained<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(AssertUnwindSafe(future).catch_unwind());
    let ended = timeout(limit, &mut future).await;
    // Its destructor may panic as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
    ended.ok()?.ok()
}

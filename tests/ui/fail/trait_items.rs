#[wirecall::service]
unsafe trait Unsafe {
    async fn ping(&self);
}

#[wirecall::service]
trait Lifetime<'a> {
    async fn ping(&self);
}

macro_rules! methods {
    () => {};
}

#[wirecall::service]
trait Items {
    type Line;
    const LIMIT: usize;
    methods!();
    async fn ping(&self);
}

#[wirecall::service]
#[rpc(name = "other")]
trait Misplaced {
    async fn ping(&self);
}

// The traits are there all the same.
struct Both;

impl Items for Both {
    type Line = String;
    const LIMIT: usize = 1;
    async fn ping(&self) {}
}

fn main() {}

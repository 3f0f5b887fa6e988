//! A server with guests who stay.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use wirecall::{Context, Limits, Server, ServerBuilder};

use crate::resume::limits;

#[wirecall::service]
pub trait Guest {
    /// Stays until it is dropped.
    async fn stay(&self);
    /// A header of the upgrade request that the connection began with.
    #[rpc(idempotent)]
    async fn header(&self, cx: &Context, name: &str) -> Option<String>;
    /// Which server this is.
    #[rpc(idempotent)]
    async fn place(&self) -> u32;
}

#[derive(Clone, Default)]
pub struct House {
    number: u32,
    staying: Arc<AtomicUsize>,
}

impl House {
    pub fn new(number: u32) -> Self {
        House {
            number,
            ..House::default()
        }
    }

    pub fn staying(&self) -> usize {
        self.staying.load(Ordering::SeqCst)
    }
}

struct Staying(Arc<AtomicUsize>);

impl Drop for Staying {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Guest for House {
    async fn stay(&self) {
        self.staying.fetch_add(1, Ordering::SeqCst);
        let _staying = Staying(self.staying.clone());
        std::future::pending().await
    }

    async fn header(&self, cx: &Context, name: &str) -> Option<String> {
        let connection = cx.connection();
        let value = connection.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }

    async fn place(&self) -> u32 {
        self.number
    }
}

pub fn house(house: &House) -> ServerBuilder {
    house_within(house, limits())
}

pub fn house_within(house: &House, limits: Limits) -> ServerBuilder {
    let guest = GuestServer::new(house.clone());
    Server::builder().limits(limits).service(guest)
}

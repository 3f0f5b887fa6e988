//! Those who have not said who they are: few of them from each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many connections of each address are not known to be anybody's.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    network: IpAddr,
}

impl Crowd {
    /// Lets one more in. `None` when there are `most` already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Place> {
        let network = network(address);
        let mut crowd = self.lock();
        let count = crowd.entry(network).or_default();
        if *count >= most {
            if *count == 0 {
                crowd.remove(&network);
            }
            return None;
        }
        *count += 1;
        Some(Place {
            crowd: self.clone(),
            network,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut crowd = self.crowd.lock();
        if let Some(count) = crowd.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                crowd.remove(&self.network);
            }
        }
    }
}

/// What one customer has: an IPv4 address, or a /64 of IPv6 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_an_address_and_no_more_until_one_has_gone() {
        let crowd = Arc::new(Crowd::default());
        let enter = |address: &str| crowd.enter(address.parse().unwrap(), 2);
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        drop(first);
        let _third = enter("192.0.2.1").unwrap();
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let crowd = Arc::new(Crowd::default());
        let enter = |address: &str| crowd.enter(address.parse().unwrap(), 1);
        let _first = enter("2001:db8:0:1::1").unwrap();
        assert!(enter("2001:db8:0:1:ffff::2").is_none());
        let _other = enter("2001:db8:0:2::1").unwrap();
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let crowd = Arc::new(Crowd::default());
        let address = "192.0.2.1".parse().unwrap();
        drop(crowd.enter(address, 1));
        assert!(crowd.enter(address, 0).is_none());
        assert!(crowd.lock().is_empty());
    }
}

//! Where each service is in the table's list, by its key. As the list is, it is a value whose copies share what none
//! of them has changed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use uvs_core::service::ServiceKey;
use uvs_core::services::Serial;

/// Parts that are shared or copied whole: as many as a copy notes, each with so much less to be copied and searched.
const PARTS: usize = 256;

type Part = Vec<(ServiceKey, Serial)>;

/// Keys with their places.
#[derive(Clone, Debug)]
pub(super) struct Places(Vec<Arc<Part>>);

impl Default for Places {
    fn default() -> Self {
        Self(vec![Arc::default(); PARTS])
    }
}

impl Places {
    /// A key's place.
    pub(super) fn get(&self, key: &ServiceKey) -> Option<Serial> {
        let mut part = self.0[part(key)].iter();
        part.find(|(known, _)| known == key)
            .map(|(_, serial)| *serial)
    }

    /// Notes the place of a key that has none.
    pub(super) fn insert(&mut self, key: ServiceKey, serial: Serial) {
        Arc::make_mut(&mut self.0[part(&key)]).push((key, serial));
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        Arc::make_mut(&mut self.0[part(key)]).retain(|(known, _)| known != key);
    }
}

/// The part that a key is in.
fn part(key: &ServiceKey) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::from(hasher.finish().to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use uvs_core::flow::{Addr, Endpoint, Protocol};
    use uvs_core::service::ServiceSpec;
    use uvs_core::services::Services;

    use super::*;

    fn key(port: u16) -> ServiceKey {
        let vip = Endpoint::new(Addr::v4([10, 0, 0, 1]), port);
        ServiceKey::address(Protocol::Tcp, vip)
    }

    #[test]
    fn a_change_is_not_seen_in_a_copy_and_copies_one_part() {
        let mut list = Services::default();
        let mut places = Places::default();
        for port in 1..=10_000 {
            let serial = list.push(Arc::new(ServiceSpec::new(key(port), "rr")));
            places.insert(key(port), serial);
        }
        let before = places.clone();
        places.remove(&key(80));
        assert_eq!(places.get(&key(80)), None);
        let found = before.get(&key(80)).and_then(|serial| list.get(serial));
        assert_eq!(found.map(|spec| spec.key), Some(key(80)));
        let pairs = places.0.iter().zip(&before.0);
        let copied = pairs.filter(|(now, before)| !Arc::ptr_eq(now, before));
        assert_eq!(copied.count(), 1);
    }
}

//! Templates that stand for one call of SIP each (`--pe sip`): they are found by the Call-ID too, which is kept here. After
//! `ip_vs_sip_ct_match` and `ip_vs_sip_hashkey_raw` of `net/netfilter/ipvs/ip_vs_pe_sip.c`.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::Flows;
use crate::conn::{Conn, ConnId, ConnTable, InsertError};
use crate::flow::Flow;
use crate::time::Instant;

/// Their Call-IDs, and where each is.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Calls {
    /// By the template's place.
    names: Vec<Option<Box<str>>>,
    /// Those that are found.
    #[serde(skip)]
    index: HashTable<Entry>,
}

/// A template in the index. Its hash is kept, so that growth costs little for each.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    place: u32,
}

impl Calls {
    /// Those that another process has handed down with its table.
    pub(super) fn succeed(handed_down: Self, conns: &ConnTable) -> Self {
        let mut calls = Self::default();
        for (place, name) in (0..).zip(handed_down.names) {
            if let Some(name) = name {
                calls.put(ConnId(place), name, conns);
            }
        }
        calls
    }

    fn get(&self, id: ConnId) -> Option<&str> {
        self.names.get(id.0 as usize)?.as_deref()
    }

    fn find(&self, flow: &Flow, name: &str, conns: &ConnTable) -> Option<ConnId> {
        let hash = conns.hash_of_named(flow, name);
        let is_it = |entry: &Entry| {
            let id = ConnId(entry.place);
            entry.hash == hash && self.get(id) == Some(name) && conns.get(id).client_flow() == *flow
        };
        self.index
            .find(hash, is_it)
            .map(|entry| ConnId(entry.place))
    }

    fn put(&mut self, id: ConnId, name: Box<str>, conns: &ConnTable) {
        let place = id.0 as usize;
        if place >= self.names.len() {
            self.names.resize(place + 1, None);
        }
        let entry = Entry {
            hash: conns.hash_of_named(&conns.get(id).client_flow(), &name),
            place: id.0,
        };
        self.names[place] = Some(name);
        self.index.insert_unique(entry.hash, entry, |e| e.hash);
    }

    /// Forgets the call of a template that is still as it was.
    pub(super) fn remove(&mut self, id: ConnId, conns: &ConnTable) {
        let name = self.names.get_mut(id.0 as usize).and_then(Option::take);
        let Some(name) = name else {
            return;
        };
        let hash = conns.hash_of_named(&conns.get(id).client_flow(), &name);
        if let Ok(entry) = self.index.find_entry(hash, |e| e.place == id.0) {
            entry.remove();
        }
    }
}

impl Flows {
    /// The call that a template stands for, where it stands for one.
    pub(in crate::engine) fn call_of(&self, id: ConnId) -> Option<&str> {
        self.calls.get(id)
    }

    /// What is found by its flow, or a call's template by its flow and call.
    pub(super) fn find_of(&self, flow: &Flow, call: Option<&str>) -> Option<ConnId> {
        match call {
            Some(call) => self.calls.find(flow, call, &self.conns),
            None => self.find(flow).map(|(id, _)| id),
        }
    }

    /// Inserts a call's template.
    ///
    /// # Errors
    /// The table is full; nothing is changed.
    pub(super) fn insert_call(
        &mut self,
        now: Instant,
        template: &Conn,
        call: &str,
    ) -> Result<ConnId, InsertError> {
        self.get_room();
        let id = self.conns.insert_apart(now, *template)?;
        self.calls.put(id, call.into(), &self.conns);
        self.opened(now, id);
        Ok(id)
    }

    /// A template that was copied in stands for this call.
    pub(in crate::engine) fn copy_call(&mut self, id: ConnId, call: &str) {
        self.calls.put(id, call.into(), &self.conns);
    }
}

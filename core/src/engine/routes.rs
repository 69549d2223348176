//! Where packets leave.

use std::sync::Arc;

use super::pmtu::PathMtus;
use crate::fib::{self, Fib, NextHop, Query, Towards, Unreachable, Ways};

/// The kernel's routes and neighbours, and what the engine remembers beside them.
pub(super) struct Routes {
    pub(super) fib: Arc<Fib>,
    /// The ways of established connections.
    routes: fib::RouteCache,
    pub(super) path_mtus: PathMtus,
}

impl Routes {
    /// None are known.
    pub(super) fn new() -> Self {
        Self {
            fib: Arc::new(Fib::new()),
            routes: fib::RouteCache::new(),
            path_mtus: PathMtus::default(),
        }
    }

    pub(super) fn set(&mut self, fib: Arc<Fib>) {
        self.fib = fib;
        self.routes.clear();
    }

    /// The way of a connection's packet, where it is known from one before.
    #[inline(always)]
    pub(super) fn kept(
        &self,
        ways: Ways,
        towards: Towards,
    ) -> Option<Result<NextHop, Unreachable>> {
        self.routes.kept(ways, towards)
    }

    /// As [`Fib::lookup`], for a connection's packet of which [`Routes::kept`] does not know.
    pub(super) fn lookup_for(
        &mut self,
        ways: (&mut Ways, Towards),
        query: &Query,
    ) -> Result<NextHop, Unreachable> {
        self.routes.lookup_for(ways, &self.fib, query)
    }

    /// As [`Fib::lookup`], for what is asked often.
    pub(super) fn lookup(&mut self, query: &Query) -> Result<NextHop, Unreachable> {
        self.routes.lookup(&self.fib, query)
    }

    /// A copy that keeps no ways.
    pub(super) fn fork(&self) -> Self {
        Self {
            fib: Arc::clone(&self.fib),
            routes: fib::RouteCache::default(),
            path_mtus: self.path_mtus.clone(),
        }
    }
}

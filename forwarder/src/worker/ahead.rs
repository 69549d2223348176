//! Looking ahead over a batch, so that its frames do not each wait for memory in their turn.

use uvs_core::engine::Seen;

use super::Worker;
use crate::port::Received;

impl Worker {
    /// Has the engine read the batch of the port at a place, and fetch what it will need. Of a frame that is alone nobody
    /// waits.
    pub(super) fn look_ahead(&mut self, port: usize, count: usize) {
        self.seen.clear();
        if count < 2 {
            return;
        }
        let (rx, engine) = (&mut self.rx[port], &self.engine);
        let look = |index| match rx.frame(index) {
            Received::Frame(mut frame, _) => engine.look(&mut frame),
            Received::Pass | Received::Drop(_) => Seen::NOTHING,
        };
        self.seen.extend((0..count).map(look));
        engine.fetch(&mut self.seen);
    }
}

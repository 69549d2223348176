//! What the daemon says of its hook: `uvs show hook`.

use uvs_control::protocol::{Answers, HookStatus, Refusal, ask};

use super::Daemon;

impl Answers<ask::Hook> for Daemon {
    fn answer(&mut self, _: ask::Hook) -> Result<HookStatus, Refusal> {
        Ok(self.hook_status())
    }
}

impl Daemon {
    /// The hook as it is now.
    pub(super) fn hook_status(&self) -> HookStatus {
        HookStatus {
            wanted: self.options.hook,
            ..HookStatus::default()
        }
    }
}

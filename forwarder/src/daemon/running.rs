//! The running table for whoever compares it with a configuration: `uvs diff`.

use std::path::absolute;

use uvs_control::difference::TableState;
use uvs_control::protocol::{Answers, Refusal, Running, ask};

use super::Daemon;

impl Answers<ask::Running> for Daemon {
    fn answer(&mut self, _: ask::Running) -> Result<Running, Refusal> {
        let file = self.options.file.as_ref();
        let file = file.map(|file| absolute(file).unwrap_or_else(|_| file.clone()));
        Ok(Running {
            file: file.map(|file| file.display().to_string()),
            own_vips_by_command_line: self.options.own_vips.is_some(),
            table: TableState::from(&self.table),
        })
    }
}

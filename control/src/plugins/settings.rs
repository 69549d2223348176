//! Settings of a service that only some schedulers take: the configuration and the control socket refuse
//! them in the same words.

use uvs_core::scheduler::SchedulerParams;
use uvs_core::service::ServiceSpec;
use uvs_schedulers::maglev;

/// The built-in scheduler whose look-up table has a size to set. Plugins see to theirs.
const SIZED: &str = "mh";

/// A setting that does not fit the service's scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingError {
    /// As the configuration calls it.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub help: String,
}

/// Whether the service's scheduler takes its settings.
///
/// # Errors
/// A look-up table's size that it does not take, or a slow start with a scheduler that hashes.
pub(crate) fn check_settings(spec: &ServiceSpec) -> Result<(), SettingError> {
    table_size(&spec.scheduler, spec.table_size)?;
    slow_start(&spec.scheduler, spec.slow_start)
}

fn table_size(scheduler: &str, size: u32) -> Result<(), SettingError> {
    let unfit = |what, help| SettingError {
        key: "table_size",
        what,
        help,
    };
    if scheduler == SIZED {
        return maglev::check_table_size(size).map_err(|e| unfit(e.to_string(), e.help()));
    }
    if size != 0 && uvs_schedulers::find(scheduler).is_some() {
        let what = format!("scheduler \"{scheduler}\" has no table of settable size");
        return Err(unfit(
            what,
            format!("it belongs to scheduler = \"{SIZED}\""),
        ));
    }
    Ok(())
}

fn slow_start(scheduler: &str, seconds: u32) -> Result<(), SettingError> {
    let def = uvs_schedulers::find(scheduler);
    let keeps = def.is_some_and(|def| (def.new)(&SchedulerParams::default()).is_consistent());
    if seconds == 0 || !keeps {
        return Ok(());
    }
    Err(SettingError {
        key: "slow_start",
        what: format!("scheduler \"{scheduler}\" keeps each client on one server"),
        help: "a slow start would move clients away and back: remove it, or use another scheduler, such as wlc"
            .to_owned(),
    })
}

//! What a daemon can be asked, and asked to do, beside changes of its table: one row each.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uvs_core::engine::ConnReport;
use uvs_core::marks::MarkRule;
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Timeouts;

use super::question::Right::{Read, Write};
use super::question::{
    Answer, Answers, Encoded, Listing, Lists, Parts, Question, Right, answered, part, question,
    questions, whole,
};
use super::{
    AccessPage, Applied, Change, Command, Find, Found, Killed, NeighbourStatus, PluginReloaded,
    Plugins, Refusal, ReloadRequest, Services, Setting, SyncRequest, SyncRole, SyncStatus,
    SysctlRequest, SysctlValue, ToldChanges,
};
use crate::trace::{LiveRequest, Subject, TracedFrames};

questions! {
    whole {
        /// Several changes, one after the other: a refused one does not keep the next from being tried, and all
        /// that are not refused are put in force together. At most [`super::MAX_BATCH`]; answered by what
        /// became of each.
        Batch(changes: Vec<Change>) -> outcomes: Vec<Result<(), Refusal>>, Write;
        /// Several changes as one step: all of them, or none where one is refused. At most [`super::MAX_BATCH`].
        Transaction(changes: Vec<Change>), Write;
        /// To zero the counters that ipvsadm shows, of one service or of all.
        Zero(service: Option<ServiceKey>), Write;
        /// The rules that mark packets, oldest first.
        ListMarks -> marks: Vec<MarkRule>, Read;
        /// The deny and allow lists, from the entry of this number on.
        ListAccess(from: u32) -> access: AccessPage, Read;
        /// The time-outs in force.
        GetTimeouts -> timeouts: Timeouts, Read;
        /// A sysctl's value, which is set first where there is a new one.
        Sysctl(request: SysctlRequest) -> sysctl: SysctlValue, request.right();
        /// About the daemon.
        Info -> info: super::Info, Read;
        /// Where frames went.
        Drops -> drops: super::Drops, Read;
        /// Traffic of all services, removed ones included, since it was zeroed.
        Traffic -> traffic: super::Traffic, Read;
        /// What would become of these frames.
        Trace(frames: Vec<Subject>) -> traced: TracedFrames, Read;
        /// To look into real frames from now on; one such look at a time.
        // It shows other people's packets, and the worker works for it.
        TraceLive(request: LiveRequest), Write;
        /// The real frames seen since this was last asked.
        TraceLiveSeen -> traced: TracedFrames, Write;
        /// To read the configuration file again and apply it as one step.
        Reload, Write;
        /// The same, as it is wanted, with what became of it.
        Apply(request: ReloadRequest) -> applied: Applied, Write;
        /// To keep what was reloaded on trial.
        ConfirmReload, Write;
        /// To go back from what was reloaded on trial.
        UndoReload -> undone: Applied, Write;
        /// All of the table that a configuration can say, and where that is read from.
        Running -> running: super::Running, Read;
        /// The latest changes of the table, from the one of this number on.
        ListChanges(from: u64) -> changes: ToldChanges, Read;
        /// To end connections of a part of the table.
        Kill(kill: super::Kill) -> killed: Killed, Write;
        /// The scheduler plugins.
        ListPlugins -> plugins: Plugins, Read;
        /// To let new versions of scheduler plugins take over, of one or of all.
        ReloadPlugins(name: Option<String>) -> plugins_reloaded: Vec<PluginReloaded>, Write;
        /// To have services that fell back from scheduler plugins try them again, of one or of all.
        RetryPlugins(name: Option<String>) -> plugins_retried: Vec<PluginReloaded>, Write;
        /// Everything that is counted, as of now.
        Sample -> sample: super::Sample, Read;
        /// Connections of a part of the table.
        FindConnections(find: Find) -> found: Found, Read;
        /// How long frames took: until now, and until about so many seconds ago.
        Latency(ago: Option<u32>) -> latency: super::Latency, Read;
        /// The host's neighbours on UVS's interfaces.
        ListNeighbours -> neighbours: Vec<NeighbourStatus>, Read;
        /// The program in the kernel.
        Hook -> hook: super::HookStatus, Read;
        /// To start a sync daemon.
        StartSync(daemon: SyncRequest), Write;
        /// To end one.
        StopSync(role: SyncRole), Write;
        /// The sync daemons that run, the master first.
        ListSync -> sync: Vec<SyncStatus>, Read;
        /// To begin an upgrade: to let another process take over, which runs this program, or the daemon's own as it is
        /// now.
        Upgrade(binary: Option<String>), Write;
        /// How far the last upgrade is.
        UpgradeState -> upgrade: super::Upgrade, Read;
        /// What is in force, besides services.
        Settings -> settings: Vec<Setting>, Read;
    }
    in parts {
        /// One service or all in the order in which they were added, with their counters.
        ListServices(service: Option<ServiceKey>) -> services: Services, Read;
        /// All connections, in table order.
        ListConnections -> connections: Vec<ConnReport>, Read;
    }
}

answered! { Change }

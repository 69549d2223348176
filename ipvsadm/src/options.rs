//! ipvsadm's commands and options: how they are spelt, in which order they are checked, and which
//! command takes which.

use uvs_core::service::Forwarding;

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// None.
    None,
    /// The rest of the word or the next word.
    Required,
    /// The same, but not a next word that is an option.
    Optional,
}

/// An option's row.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) opt: Opt,
    pub(super) long: &'static str,
    pub(super) short: &'static [char],
    pub(super) value: Value,
    /// What it counts as where it may be given once only.
    pub(super) kind: Option<Kind>,
}

macro_rules! options {
    ($($opt:ident $long:literal [$($short:literal)*] $value:ident $($kind:ident)?,)*) => {
        /// What a word of the command line can stand for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Opt {
            $($opt,)*
            /// A forwarding method's.
            Method(Forwarding),
        }

        /// Every spelling but the forwarding methods'. `--laddr` and those of how clients are introduced are UVS's own.
        const OPTIONS: &[Row] = &[$(Row {
            opt: Opt::$opt,
            long: $long,
            short: &[$($short,)*],
            value: Value::$value,
            kind: options!(@ $(Kind::$kind)?),
        },)*];
    };
    (@ $it:expr) => { Some($it) };
    (@) => { None };
}

options! {
    AddService "add-service" ['A'] None,
    EditService "edit-service" ['E'] None,
    DeleteService "delete-service" ['D'] None,
    Clear "clear" ['C'] None,
    List "list" ['L' 'l'] None,
    Zero "zero" ['Z'] None,
    AddServer "add-server" ['a'] None,
    EditServer "edit-server" ['e'] None,
    DeleteServer "delete-server" ['d'] None,
    Restore "restore" ['R'] None,
    Save "save" ['S'] None,
    Set "set" [] None,
    StartDaemon "start-daemon" [] Required,
    StopDaemon "stop-daemon" [] Required,
    Help "help" ['h'] None,
    Version "version" ['v'] None,
    Tcp "tcp-service" ['t'] Required Service,
    Udp "udp-service" ['u'] Required Service,
    Sctp "sctp-service" [] Required Service,
    Mark "fwmark-service" ['f'] Required Service,
    Ipv6 "ipv6" ['6'] None,
    Scheduler "scheduler" ['s'] Required Scheduler,
    Persistent "persistent" ['p'] Optional Persistent,
    Netmask "netmask" ['M'] Required Netmask,
    Engine "pe" [] Required Engine,
    SchedFlags "sched-flags" ['b'] Required SchedFlags,
    OnePacket "ops" ['o'] None OnePacket,
    LocalAddresses "laddr" [] Required LocalAddresses,
    ProxyProtocol "proxy-protocol" [] Required ProxyProtocol,
    ProxyAuthority "proxy-authority" [] Required ProxyAuthority,
    Toa "toa" [] Required Toa,
    Timestamps "timestamps" [] Required Timestamps,
    Server "real-server" ['r'] Required Server,
    Weight "weight" ['w'] Required Weight,
    Upper "u-threshold" ['x'] Required Upper,
    Lower "l-threshold" ['y'] Required Lower,
    TunType "tun-type" [] Required TunType,
    TunPort "tun-port" [] Required TunPort,
    TunNoCsum "tun-nocsum" [] None TunNoCsum,
    TunCsum "tun-csum" [] None TunCsum,
    TunRemCsum "tun-remcsum" [] None TunRemCsum,
    Numeric "numeric" ['n'] None Numeric,
    Connection "connection" ['c'] None Connection,
    Timeout "timeout" [] None Timeout,
    Daemon "daemon" [] None Daemon,
    Stats "stats" [] None Stats,
    Rate "rate" [] None Rate,
    Thresholds "thresholds" [] None Thresholds,
    PersistentConn "persistent-conn" [] None PersistentConn,
    TunInfo "tun-info" [] None TunInfo,
    Exact "exact" [] None Exact,
    Sort "sort" [] None,
    NoSort "nosort" [] None NoSort,
    SyncId "syncid" [] Required SyncId,
    SyncMaxLen "sync-maxlen" [] Required SyncMaxLen,
    McastInterface "mcast-interface" [] Required McastInterface,
    McastGroup "mcast-group" [] Required McastGroup,
    McastPort "mcast-port" [] Required McastPort,
    McastTtl "mcast-ttl" [] Required McastTtl,
}

/// Every option: ipvsadm's, and one for each forwarding method.
pub(super) fn options() -> impl Iterator<Item = Row> {
    let method = |method: &Forwarding| {
        let def = method.def();
        Row {
            opt: Opt::Method(*method),
            long: def.option,
            short: def.letter.as_slice(),
            value: Value::None,
            kind: Some(Kind::Forwarding),
        }
    };
    OPTIONS
        .iter()
        .copied()
        .chain(Forwarding::ALL.iter().map(method))
}

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// What may be given once. The order is the order of the checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind { $($kind,)* }

        impl Kind {
            /// Every kind, in order.
            pub(super) const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// As messages call it.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    Numeric "numeric",
    Connection "connection",
    Service "service-address",
    Scheduler "scheduler",
    Persistent "persistent",
    Netmask "netmask",
    Server "real-server",
    Forwarding "forwarding-method",
    Weight "weight",
    Upper "u-threshold",
    Lower "l-threshold",
    McastInterface "mcast-interface",
    Timeout "timeout",
    Daemon "daemon",
    Stats "stats",
    Rate "rate",
    Thresholds "thresholds",
    PersistentConn "persistent-conn",
    NoSort "nosort",
    SyncId "syncid",
    Exact "exact",
    OnePacket "ops",
    Engine "pe",
    SchedFlags "sched-flags",
    McastGroup "mcast-group",
    McastPort "mcast-port",
    McastTtl "mcast-ttl",
    SyncMaxLen "sync-maxlen",
    TunInfo "tun-info",
    TunType "tun-type",
    TunPort "tun-port",
    TunNoCsum "tun-nocsum",
    TunCsum "tun-csum",
    TunRemCsum "tun-remcsum",
    LocalAddresses "laddr",
    ProxyProtocol "proxy-protocol",
    ProxyAuthority "proxy-authority",
    Toa "toa",
    Timestamps "timestamps",
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u64);

impl Kinds {
    /// A set of these.
    pub(super) const fn of(kinds: &[Kind]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Whether `kind` is in it.
    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    /// Whether one of `others` is in it.
    pub(super) const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Puts `kind` in; false where it was in already.
    pub(super) fn insert(&mut self, kind: Kind) -> bool {
        let new = !self.has(kind);
        self.0 |= 1 << kind as u32;
        new
    }
}

macro_rules! verbs {
    ($($verb:ident $name:literal needs [$($need:ident)*] takes [$($take:ident)*],)*) => {
        /// A command of ipvsadm's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Verb { $($verb,)* }

        impl Verb {
            /// As messages call it.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$verb => $name,)* }
            }

            /// What must be given.
            pub(super) const fn needs(self) -> Kinds {
                match self { $(Self::$verb => Kinds::of(&[$(Kind::$need,)*]),)* }
            }

            /// What else may be given.
            pub(super) const fn takes(self) -> Kinds {
                match self { $(Self::$verb => Kinds::of(&[$(Kind::$take,)*]),)* }
            }

            /// The command an option stands for, where it is one.
            pub(super) const fn of(opt: Opt) -> Option<Self> {
                match opt { $(Opt::$verb => Some(Self::$verb),)* _ => None }
            }
        }
    };
}

verbs! {
    AddService "add-service" needs [Service]
        takes [Scheduler Persistent Netmask OnePacket Engine SchedFlags LocalAddresses ProxyProtocol
               ProxyAuthority Toa Timestamps],
    EditService "edit-service" needs [Service]
        takes [Scheduler Persistent Netmask OnePacket Engine SchedFlags LocalAddresses ProxyProtocol
               ProxyAuthority Toa Timestamps],
    DeleteService "delete-service" needs [Service] takes [],
    Clear "flush" needs [] takes [],
    List "list" needs []
        takes [Numeric Connection Service Timeout Daemon Stats Rate Thresholds PersistentConn NoSort
               SyncId Exact TunInfo],
    Zero "zero" needs [] takes [Service],
    AddServer "add-server" needs [Service Server]
        takes [Forwarding Weight Upper Lower TunType TunPort TunNoCsum TunCsum TunRemCsum],
    EditServer "edit-server" needs [Service Server]
        takes [Forwarding Weight Upper Lower TunType TunPort TunNoCsum TunCsum TunRemCsum],
    DeleteServer "delete-server" needs [Service Server] takes [],
    Restore "restore" needs [] takes [],
    Save "save" needs [] takes [Numeric],
    Set "set" needs [] takes [],
    StartDaemon "start-daemon" needs []
        takes [SyncId SyncMaxLen McastInterface McastGroup McastPort McastTtl],
    StopDaemon "stop-daemon" needs [] takes [SyncId],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new method's words might be another option's.
    #[test]
    fn the_manual_page_has_every_option() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = page.join("../packaging/man/ipvsadm.8");
        let page = std::fs::read_to_string(page).expect("the page");
        for row in options() {
            let long = format!("\\fB\\-\\-{}\\fR", row.long.replace('-', "\\-"));
            assert!(page.contains(&long), "--{}", row.long);
            for short in row.short {
                assert!(page.contains(&format!("\\fB\\-{short}\\fR")), "-{short}");
            }
        }
    }

    #[test]
    fn no_spelling_is_two_options() {
        let mut longs: Vec<&str> = options().map(|row| row.long).collect();
        let mut shorts: Vec<char> = options().flat_map(|row| row.short).copied().collect();
        let counts = (longs.len(), shorts.len());
        longs.sort_unstable();
        longs.dedup();
        shorts.sort_unstable();
        shorts.dedup();
        assert_eq!((longs.len(), shorts.len()), counts);
    }
}

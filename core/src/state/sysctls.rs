//! IPVS's sysctls by their names under `net.ipv4.vs.`: all that the kernel has (`vs_vars` in
//! `net/netfilter/ipvs/ip_vs_ctl.c`), with its defaults, and with the values that its handlers take.
//!
//! Scripts set them without looking, so one that has no effect here is remembered all the same, and whoever sets it
//! is told why it has none. A value is text, as under /proc/sys: not each of them is one number.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// `proc_dointvec`: the kernel looks at nothing.
const ANY: RangeInclusive<i32> = i32::MIN..=i32::MAX;
/// `proc_do_defense_mode`.
const DEFENCE: RangeInclusive<i32> = 0..=3;
/// `proc_dointvec_jiffies` of a period in seconds, at 100 jiffies a second.
const SECONDS: RangeInclusive<i32> = -(i32::MAX / 100)..=i32::MAX / 100;

const ESTIMATOR: &str = "UVS's control thread makes the estimates, which costs next to nothing";
const TABLES: &str = "UVS's tables are sized by `limits.connections` of the configuration";

macro_rules! sysctls {
    ($($name:ident = $default:literal, $range:expr, $doc:literal $(, none $why:expr)?;)*) => {
        /// The values of all of them.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Sysctls {
            $(#[doc = $doc] pub $name: i32,)*
            /// Packets of a connection before it is synchronised, and after which it is again.
            pub sync_threshold: (i32, i32),
            /// The CPUs of the estimator, as `0-3,5`; empty = all.
            pub est_cpulist: String,
        }

        impl Default for Sysctls {
            fn default() -> Self {
                Self {
                    $($name: $default,)*
                    sync_threshold: (3, 50),
                    est_cpulist: String::new(),
                }
            }
        }

        impl Sysctls {
            /// Every name, in order.
            pub const NAMES: &'static [&'static str] =
                &[$(stringify!($name),)* "sync_threshold", "est_cpulist"];

            /// The value as the kernel would show it, `None` for an unknown name.
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(self.$name.to_string()),)*
                    "sync_threshold" => {
                        let (first, again) = self.sync_threshold;
                        Some(format!("{first}\t{again}"))
                    }
                    "est_cpulist" => Some(self.est_cpulist.clone()),
                    _ => None,
                }
            }

            /// What it does, one sentence; `None` for an unknown name.
            pub fn about(name: &str) -> Option<&'static str> {
                match name {
                    $(stringify!($name) => Some($doc),)*
                    "sync_threshold" => Some("Packets of a connection before it is synchronised, and after which it is again."),
                    "est_cpulist" => Some("The CPUs of the estimator."),
                    _ => None,
                }
            }

            /// Why it has no effect here; `None` for one that has, and for an unknown name.
            pub fn no_effect(name: &str) -> Option<&'static str> {
                match name {
                    $($(stringify!($name) => Some($why),)?)*
                    "est_cpulist" => Some(ESTIMATOR),
                    _ => None,
                }
            }

            /// Sets a value.
            ///
            /// # Errors
            /// An unknown name, or a value that the kernel would refuse; nothing is changed.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), SysctlError> {
                match name {
                    $(stringify!($name) => self.$name = number(name, value, $range)?,)*
                    "sync_threshold" => self.sync_threshold = pair(value, self.sync_threshold.1)?,
                    "est_cpulist" => self.est_cpulist = cpus(value)?,
                    _ => return Err(SysctlError::Unknown),
                }
                Ok(())
            }

            /// The values that it takes, in words; `None` for an unknown name.
            pub fn values(name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(numbers(name, &$range)),)*
                    "sync_threshold" => Some(PAIR.to_owned()),
                    "est_cpulist" => Some(CPUS.to_owned()),
                    _ => None,
                }
            }
        }
    };
}

sysctls! {
    am_droprate = 10, ANY, "drop_packet = 3 drops one new connection in this many; 0 none, a negative number each.";
    amemthresh = 1024, ANY, "Free places in the connection table under which the automatic defences switch on, at most a sixteenth of it (the kernel counts free pages).";
    conn_reuse_mode = 1, ANY, "What a SYN on a known tuple does: 0 reuse the entry, bit 0 reschedule in TIME_WAIT and CLOSE, bit 1 also in FIN_WAIT where replies are unseen.";
    drop_entry = 0, DEFENCE, "End half-open and idle entries and templates that are not ASSURED, 1/32 of the table looked at each second: 0 never, 1 or 2 while places are scarce (amemthresh), 3 always.";
    drop_packet = 0, DEFENCE, "Drop a share of the new connections: 0 never, 1 or 2 while places are scarce (the fewer the more), 3 always one in am_droprate.";
    expire_nodest_conn = 0, ANY, "Whether a connection of a removed server ends with its next packet.";
    expire_quiescent_template = 0, ANY, "Whether persistence leaves a server whose weight becomes 0.";
    nat_icmp_send = 0, ANY, "Whether a NAT server is told (ICMP 3/3) of a packet that has no connection.";
    pmtu_disc = 1, ANY, "Whether a packet that is too big with DF is answered (ICMP 3/4) and tunnels copy DF.";
    schedule_icmp = 0, ANY, "Whether an ICMP error about an unknown connection is scheduled.";
    secure_tcp = 0, DEFENCE, "Stricter TCP states, ESTABLISHED only after the whole handshake: 0 never, 1 or 2 while places are scarce, 3 always.";
    sloppy_tcp = 0, ANY, "Whether any TCP segment may start a connection.";
    sloppy_sctp = 0, ANY, "Whether any SCTP packet may start a connection.";
    snat_reroute = 1, ANY, "A reply is routed by the VIP, as far as routing rules ask for sources; 0: as it came, by its server and interface.";
    backup_only = 0, ANY, "Whether a backup director leaves packets to the host.";
    cache_bypass = 0, ANY, "Whether a packet for a transparent cache that has no server goes to its destination.", none "UVS does not serve transparent caches by routing";
    conn_lfactor = -4, -8..=8, "Connections for each place of the hash table, as a power of 2.", none TABLES;
    conn_max = 1_073_741_824, 0..=1_073_741_824, "Connections in the table.", none TABLES;
    conntrack = 0, ANY, "Whether connections are entered into netfilter's connection tracking.", none "what UVS serves never passes netfilter, so no rule can look at its connection there";
    debug_level = 0, ANY, "How much the kernel logs about IPVS.", none "UVS's log has its levels by $UVS_LOG";
    est_nice = 0, -20..=19, "The estimator's priority.", none ESTIMATOR;
    ignore_tunneled = 0, ANY, "Whether packets that come out of a tunnel are left to the host.", none "packets that come out of a tunnel come from no interface of UVS's, and are left to the host in any case";
    run_estimation = 1, ANY, "Whether rates are estimated.", none ESTIMATOR;
    svc_lfactor = -3, -8..=8, "Services for each place of the hash table, as a power of 2.", none TABLES;
    sync_persist_mode = 0, ANY, "Whether only templates are synchronised for persistent services.";
    sync_ports = 1, 1..=1_073_741_824, "Threads, and UDP ports, of the synchronisation.";
    sync_qlen_max = 65536, 0..=i32::MAX, "Messages that wait to be sent to the backup.", none "UVS keeps 65536 of them until they are sent";
    sync_refresh_period = 0, SECONDS, "Seconds after which an unchanged connection is synchronised again.";
    sync_retries = 0, 0..=3, "How often a connection is sent again within the refresh period.";
    sync_sock_size = 0, ANY, "Bytes of the synchronisation's socket buffer.";
    sync_version = 1, 0..=1, "The synchronisation protocol's version.";
}

const PAIR: &str =
    "two whole numbers, neither negative, the first less than the second unless that is 0";
const CPUS: &str = "CPUs such as 0-3,5";

impl Sysctls {
    /// The prefix that each name has among the host's sysctls.
    pub const PREFIX: &'static str = "net.ipv4.vs.";

    /// What is to be said of a value that has no effect, other than the default, which is what UVS does.
    pub fn note(&self, name: &str) -> Option<String> {
        let why = Self::no_effect(name)?;
        let value = self.get(name)?;
        (Self::default().get(name)? != value)
            .then(|| format!("{}{name} = {value} has no effect: {why}", Self::PREFIX))
    }
}

/// Why a sysctl could not be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SysctlError {
    /// There is none of that name.
    Unknown,
    /// The kernel would not take the value either.
    Value {
        /// What is wrong with it.
        what: String,
        /// What it should be.
        wanted: String,
    },
}

fn refuse(what: String, wanted: String) -> SysctlError {
    SysctlError::Value { what, wanted }
}

fn numbers(name: &str, range: &RangeInclusive<i32>) -> String {
    match (*range.start(), *range.end()) {
        (i32::MIN, i32::MAX) => "a whole number".to_owned(),
        (low, i32::MAX) => format!("a whole number from {low}"),
        _ if name == "sync_ports" => "a power of 2".to_owned(),
        (low, high) => format!("a whole number from {low} to {high}"),
    }
}

fn number(name: &str, text: &str, range: RangeInclusive<i32>) -> Result<i32, SysctlError> {
    let wanted = || numbers(name, &range);
    let text = text.trim();
    let Some(value) = whole(text) else {
        return Err(refuse(
            format!("\"{text}\" is not a whole number"),
            wanted(),
        ));
    };
    // `proc_do_sync_ports`.
    let odd = name == "sync_ports" && !value.unsigned_abs().is_power_of_two();
    match i32::try_from(value).ok().filter(|v| range.contains(v)) {
        Some(value) if !odd => Ok(value),
        _ => Err(refuse(format!("{text} is out of range"), wanted())),
    }
}

/// In C's notation (`proc_get_long`): 0x for hexadecimal, a leading 0 for octal.
fn whole(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let value = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => unsigned(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => unsigned(digits, 8),
        _ => unsigned(digits, 10),
    }?;
    Some(if negative { -value } else { value })
}

/// Digits only; a number that no sysctl holds is as good as the largest.
fn unsigned(digits: &str, radix: u32) -> Option<i64> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(i64::from_str_radix(digits, radix).unwrap_or(i64::MAX))
}

/// `proc_do_sync_threshold`: where there is no second number, it stays what it was.
fn pair(text: &str, second: i32) -> Result<(i32, i32), SysctlError> {
    let wrong = || {
        let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
        refuse(format!("\"{said}\" is not such a pair"), PAIR.to_owned())
    };
    let words = text.split_whitespace().map(|word| {
        let value = whole(word)?;
        i32::try_from(value).ok().filter(|v| *v >= 0)
    });
    let words: Option<Vec<i32>> = words.collect();
    let (first, again) = match words.as_deref() {
        Some(&[first]) => (first, second),
        Some(&[first, again]) => (first, again),
        _ => return Err(wrong()),
    };
    if again == 0 || first < again {
        Ok((first, again))
    } else {
        Err(wrong())
    }
}

/// `cpulist_parse`: numbers and ranges, with commas between them; a range may have `:USED/GROUP` behind it.
fn cpus(text: &str) -> Result<String, SysctlError> {
    let text = text.trim();
    let cpu = |word: &str| match word {
        "N" => Some(u32::MAX),
        digits => digits.parse::<u32>().ok(),
    };
    let fits = |part: &str| {
        let (range, group) = part.split_once(':').unwrap_or((part, "1/1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let in_order = cpu(first).zip(cpu(last)).is_some_and(|(a, b)| a <= b);
        let group = group.split_once('/');
        let group = group.and_then(|(used, of)| cpu(used).zip(cpu(of)));
        in_order && group.is_some_and(|(used, of)| used <= of && of > 0)
    };
    if text.is_empty() || text == "all" || text.split(',').all(|part| fits(part.trim())) {
        return Ok(text.to_owned());
    }
    Err(refuse(
        format!("\"{text}\" is not a list of CPUs"),
        CPUS.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_default_that_can_be_set_and_a_meaning() {
        let defaults = Sysctls::default();
        for name in Sysctls::NAMES {
            let mut sysctls = defaults.clone();
            let value = defaults.get(name).expect("a value");
            assert_eq!(sysctls.set(name, &value), Ok(()), "{name} = {value:?}");
            assert_eq!(sysctls, defaults, "{name}");
            assert!(Sysctls::about(name).is_some() && Sysctls::values(name).is_some());
            assert_eq!(defaults.note(name), None, "the default is what UVS does");
        }
        let mut sysctls = defaults;
        assert_eq!(sysctls.set("nosuch", "1"), Err(SysctlError::Unknown));
    }

    #[test]
    fn what_the_kernel_takes_is_taken_and_remembered() {
        let mut sysctls = Sysctls::default();
        for (name, value, shown) in [
            ("conntrack", "1", "1"),
            ("expire_nodest_conn", "2", "2"),
            ("drop_entry", " 0x3\n", "3"),
            ("am_droprate", "-1", "-1"),
            ("amemthresh", "010", "8"),
            ("sync_threshold", "3 50", "3\t50"),
            ("sync_threshold", "0\t0", "0\t0"),
            ("sync_threshold", "9  0", "9\t0"),
            ("sync_threshold", "7", "7\t0"),
            ("sync_ports", "8", "8"),
            ("sync_qlen_max", "1028304", "1028304"),
            ("sync_refresh_period", "10", "10"),
            ("est_cpulist", "0-3,5", "0-3,5"),
            ("est_cpulist", "0-N:1/2", "0-N:1/2"),
            ("est_nice", "-20", "-20"),
        ] {
            assert_eq!(sysctls.set(name, value), Ok(()), "{name} = {value:?}");
            assert_eq!(sysctls.get(name).as_deref(), Some(shown), "{name}");
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_refused_and_changes_nothing() {
        for (name, value, said) in [
            ("drop_entry", "4", "4 is out of range"),
            ("drop_packet", "-1", "-1 is out of range"),
            ("secure_tcp", "yes", "\"yes\" is not a whole number"),
            ("conntrack", "", "\"\" is not a whole number"),
            ("conntrack", "1 2", "\"1 2\" is not a whole number"),
            ("conntrack", "08", "\"08\" is not a whole number"),
            ("amemthresh", "2147483648", "2147483648 is out of range"),
            ("amemthresh", "99999999999999999999", "is out of range"),
            ("sync_ports", "3", "3 is out of range"),
            ("sync_ports", "0", "0 is out of range"),
            ("sync_version", "2", "2 is out of range"),
            ("sync_retries", "4", "4 is out of range"),
            ("sync_threshold", "50", "\"50\" is not such a pair"),
            ("sync_threshold", "", "\"\" is not such a pair"),
            ("sync_threshold", "50 3", "\"50 3\" is not such a pair"),
            ("sync_threshold", "-1\t50", "\"-1 50\" is not such a pair"),
            ("sync_threshold", "1 2 3", "\"1 2 3\" is not such a pair"),
            ("est_cpulist", "3-1", "\"3-1\" is not a list of CPUs"),
            ("est_nice", "20", "20 is out of range"),
        ] {
            let mut sysctls = Sysctls::default();
            match sysctls.set(name, value) {
                Err(SysctlError::Value { what, .. }) => assert!(what.contains(said), "{what}"),
                other => panic!("{name} = {value:?}: {other:?}"),
            }
            assert_eq!(sysctls, Sysctls::default());
        }
    }

    #[test]
    fn a_value_without_an_effect_says_why() {
        let mut sysctls = Sysctls::default();
        sysctls.set("conntrack", "1").expect("taken");
        let note = sysctls.note("conntrack").expect("a note");
        let begin =
            "net.ipv4.vs.conntrack = 1 has no effect: what UVS serves never passes netfilter";
        assert!(note.starts_with(begin), "{note}");
        sysctls.set("drop_entry", "3").expect("taken");
        assert_eq!(sysctls.note("drop_entry"), None);
    }
}

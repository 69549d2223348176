//! `own_vips`: which VIPs UVS answers for while no interface of the host's has them. None, unless it is said:
//! a stand-by director must be silent about the addresses that its partner has.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uvs_core::flow::Addr;
use uvs_core::marks::destinations;

use super::fields::Value;
use super::{Config, address};

/// What cannot be owned, and what can be done.
const LOOPBACK: &str = "it is each host's own; name an address that clients reach";

fn is_loopback(addr: Addr) -> bool {
    IpAddr::from(addr).is_loopback()
}

/// The VIPs that UVS owns while the host does not have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnVips {
    /// None: what the host does not have is silent.
    #[default]
    None,
    /// Those of all services.
    All,
    /// These, as soon as a service has them.
    Some(Vec<Addr>),
}

impl OwnVips {
    /// Whether this VIP is to be owned.
    pub fn has(&self, vip: Addr) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(some) => some.contains(&vip),
        }
    }

    /// What `--own-vip` is to be given, each by an option of its own.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::All => vec!["all".to_owned()],
            Self::Some(some) => some.iter().map(Addr::to_string).collect(),
        }
    }

    /// What either owns.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, own) | (own, Self::None) => own,
            (Self::Some(mut some), Self::Some(more)) => {
                some.extend(more);
                Self::Some(some)
            }
        }
    }
}

/// `all`, `none`, or the addresses.
impl fmt::Display for OwnVips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words().as_slice() {
            [] => f.write_str("none"),
            words => f.write_str(&words.join(",")),
        }
    }
}

/// As `--own-vip` takes it: `all`, or one address.
impl FromStr for OwnVips {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let addr =
            address::parse(text).map_err(|(what, _)| format!("{what}; use an address, or all"))?;
        match is_loopback(addr) {
            true => Err(format!("{addr} cannot be owned; {LOOPBACK}")),
            false => Ok(Self::Some(vec![addr])),
        }
    }
}

impl Config {
    /// What to know about addresses to be owned that no service of the file has.
    pub fn own_vips_unserved(&self) -> Vec<String> {
        let OwnVips::Some(some) = &self.own_vips else {
            return Vec::new();
        };
        let services = self.services.iter();
        let vips: Vec<Addr> = services
            .flat_map(|s| destinations(s.key, &self.marks))
            .filter(|to| to.is_host())
            .map(|to| to.addr)
            .collect();
        let unserved = some.iter().filter(|own| !vips.contains(own));
        unserved
            .map(|own| {
                format!("own_vips: {own} is the VIP of no service: it is not answered for until one has it")
            })
            .collect()
    }
}

/// `"all"`, `"none"` or a list.
pub(super) fn read(value: &Value<'_>) -> OwnVips {
    const HELP: &str = "use \"all\", \"none\", or a list of addresses: [\"192.168.0.38\"]";
    if !value.is_array() {
        let word = value.is_string().then(|| value.string()).flatten();
        match word {
            Some("all") => return OwnVips::All,
            Some("none") => {}
            Some(word) => value.refuse(format!("unknown value \"{word}\""), HELP),
            None => value.refuse("is neither a word nor a list", HELP),
        }
        return OwnVips::None;
    }
    let mut seen: HashMap<Addr, Range<usize>> = HashMap::new();
    let mut some = Vec::new();
    for item in value.items() {
        let Some(addr) = address::plain(&item) else {
            continue;
        };
        if is_loopback(addr) {
            item.refuse(format!("{addr} cannot be owned"), LOOPBACK);
        } else if let Some(first) = seen.get(&addr) {
            let what = format!("{addr} twice");
            item.refuse_again(what, "name each address once", first.clone());
        } else {
            seen.insert(addr, item.span());
            some.push(addr);
        }
    }
    OwnVips::Some(some)
}

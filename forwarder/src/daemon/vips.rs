//! Where the VIPs are: what changed since, for the log.

use uvs_core::fib::Fib;
use uvs_core::flow::Addr;

use super::UnassignedVips;

/// Addresses that one line names.
const MOST: usize = 10;

/// Says which VIPs are owned from now on, which are not any more, and which nobody answers for here.
pub(super) fn log_changes(before: &UnassignedVips, now: &UnassignedVips, fib: &Fib) {
    let new = |now: &[Addr], before: &[Addr]| -> Vec<Addr> {
        let new = now.iter().filter(|a| before.binary_search(a).is_err());
        new.copied().collect()
    };
    if let Some(owned) = named(&new(&now.owned, &before.owned)) {
        tracing::info!("owned: {owned}: on none of this host's interfaces, so UVS answers for it");
    }
    let left = new(&before.owned, &now.owned);
    let (here, _): (Vec<Addr>, Vec<Addr>) = left.iter().partition(|a| fib.is_local(**a));
    if let Some(here) = named(&here) {
        tracing::info!(
            "not owned any more: {here}: it is on this host now, which answers for it itself"
        );
    }
    if let Some(absent) = named(&new(&now.absent, &before.absent)) {
        tracing::info!(
            "not here: {absent}: on none of this host's interfaces and not owned, so UVS is silent about it, as a stand-by must be; \
             add the address to an interface, or name it in own_vips or --own-vip, where this director is to have it"
        );
    }
}

/// The first of them, and how many there are; `None` where there is none.
fn named(vips: &[Addr]) -> Option<String> {
    let first: Vec<String> = vips.iter().take(MOST).map(Addr::to_string).collect();
    match vips.len() {
        0 => None,
        n if n > MOST => Some(format!("{} and {} more", first.join(", "), n - MOST)),
        _ => Some(first.join(", ")),
    }
}

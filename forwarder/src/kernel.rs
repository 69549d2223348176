//! What the kernel can do, by its version, where there is no other way to find out.

use std::fmt;
use std::fs;

/// Where the running kernel says its release.
pub const OSRELEASE: &str = "/proc/sys/kernel/osrelease";

/// A kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl Version {
    /// The running kernel's; `None` where it does not say, or nothing that is known.
    pub fn running() -> Option<Self> {
        Self::parse(&fs::read_to_string(OSRELEASE).ok()?)
    }

    /// That of a release, as `uname -r` prints it: `6.1.0-56-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self {
            major: next()?,
            minor: next()?,
        })
    }

    /// Whether whoever is asked about a system call may have it carried out (SECCOMP_USER_NOTIF_FLAG_CONTINUE).
    pub fn carries_out_what_it_asked(self) -> bool {
        self >= Self { major: 5, minor: 5 }
    }

    /// Whether its virtio_net_hdr has a word for a super-frame of UDP datagrams (VIRTIO_NET_HDR_GSO_UDP_L4).
    pub fn describes_udp_segments(self) -> bool {
        self >= Self { major: 6, minor: 2 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_up_to_its_second_number() {
        let version = |major, minor| Some(Version { major, minor });
        assert_eq!(Version::parse("6.1.0-56-amd64\n"), version(6, 1));
        assert_eq!(Version::parse("6.18.44-fc-v669"), version(6, 18));
        assert_eq!(Version::parse("6.2-rc1"), version(6, 2));
        assert_eq!(Version::parse("mainline"), None);
        assert_eq!(Version::parse(""), None);
    }

    #[test]
    fn udp_segments_have_a_word_from_6_2_on() {
        let describes = |release| Version::parse(release).map(Version::describes_udp_segments);
        assert_eq!(describes("5.15.0"), Some(false));
        assert_eq!(describes("6.1.999"), Some(false));
        assert_eq!(describes("6.2.0"), Some(true));
        assert_eq!(describes("6.18.44"), Some(true));
    }

    #[test]
    fn the_running_kernel_says_its_version() {
        assert!(Version::running() > Version::parse("4.0"));
    }
}

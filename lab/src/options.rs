//! What can differ between two labs of one mode.

/// Whether hosts leave checksums and segmentation to the (virtual) hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offloads {
    /// As veth comes: super-frames with unfinished checksums pass between hosts.
    #[default]
    Default,
    /// Off on every host: what passes is what a wire would carry.
    Off,
}

/// Who owns the VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VipOwner {
    /// The director's kernel has it on its interface, as in the tutorial.
    #[default]
    Host,
    /// No interface has it, and UVS is told to own it.
    Uvs,
    /// No interface has it, and UVS is told nothing: the director is a stand-by.
    Nobody,
}

/// What can differ between two labs of one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of every host.
    pub offloads: Offloads,
    /// On the director.
    pub vip: VipOwner,
    /// Whether the director's kernel forwards, in both families.
    pub ip_forward: bool,
    /// DR: the client is not in the broadcast domain but behind a router.
    pub client_behind_router: bool,
}

impl Options {
    /// As the tutorial has it: the default.
    pub const TUTORIAL: Self = Self {
        offloads: Offloads::Default,
        vip: VipOwner::Host,
        ip_forward: true,
        client_behind_router: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::TUTORIAL
    }
}

//! `union bpf_attr` of linux/bpf.h, one struct a command, as far as it is used.

/// A map's or a program's name, with its end.
pub(super) type Name = [u8; 16];

/// A name, cut to what the kernel has room for.
pub(super) fn name(text: &str) -> Name {
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

macro_rules! commands {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(pub(super) const $name: u32 = $number;)*
    };
}

commands! {
    MAP_CREATE = 0, MAP_LOOKUP = 1, MAP_UPDATE = 2, MAP_DELETE = 3, MAP_NEXT_KEY = 4, PROG_LOAD = 5, OBJ_PIN = 6,
    OBJ_GET = 7, PROG_TEST_RUN = 10, OBJ_INFO = 15, PROG_QUERY = 16, MAP_FREEZE = 22, MAP_UPDATE_BATCH = 26,
    LINK_CREATE = 28, LINK_UPDATE = 29, LINK_DETACH = 34,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct MapCreate {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) inner: u32,
    pub(super) numa_node: u32,
    pub(super) name: Name,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Element {
    pub(super) map: u32,
    pub(super) unused: u32,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) flags: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Batch {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    pub(super) count: u32,
    pub(super) map: u32,
    pub(super) element_flags: u64,
    pub(super) flags: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct ProgLoad {
    pub(super) kind: u32,
    pub(super) instructions: u32,
    pub(super) code: u64,
    pub(super) license: u64,
    pub(super) log_level: u32,
    pub(super) log_size: u32,
    pub(super) log: u64,
    pub(super) kernel: u32,
    pub(super) flags: u32,
    pub(super) name: Name,
    pub(super) ifindex: u32,
    pub(super) attach: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Object {
    pub(super) path: u64,
    pub(super) fd: u32,
    pub(super) flags: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct TestRun {
    pub(super) program: u32,
    pub(super) ret: u32,
    pub(super) size_in: u32,
    pub(super) size_out: u32,
    pub(super) data_in: u64,
    pub(super) data_out: u64,
    pub(super) repeat: u32,
    pub(super) duration: u32,
    pub(super) context_size_in: u32,
    pub(super) context_size_out: u32,
    pub(super) context_in: u64,
    pub(super) context_out: u64,
    pub(super) flags: u32,
    pub(super) cpu: u32,
    pub(super) batch: u32,
    pub(super) unused: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Info {
    pub(super) fd: u32,
    pub(super) len: u32,
    pub(super) info: u64,
}

/// `struct bpf_map_info`, its first fields.
#[repr(C)]
#[derive(Default)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// `struct bpf_prog_info`, its first fields.
#[repr(C)]
#[derive(Default)]
pub(super) struct ProgInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Query {
    pub(super) ifindex: u32,
    pub(super) attach: u32,
    pub(super) flags: u32,
    pub(super) attach_flags: u32,
    pub(super) ids: u64,
    pub(super) count: u32,
    pub(super) unused: u32,
    pub(super) prog_attach_flags: u64,
    pub(super) link_ids: u64,
    pub(super) link_attach_flags: u64,
    pub(super) revision: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct LinkCreate {
    pub(super) program: u32,
    pub(super) ifindex: u32,
    pub(super) attach: u32,
    pub(super) flags: u32,
    pub(super) relative: u32,
    pub(super) unused: u32,
    pub(super) revision: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct LinkUpdate {
    pub(super) link: u32,
    pub(super) program: u32,
    pub(super) flags: u32,
    pub(super) old: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct LinkDetach {
    pub(super) link: u32,
}

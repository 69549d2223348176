//! BPF programs and their links.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use uvs_core::narrow;

use super::attr::{
    self, Info, LinkCreate, LinkDetach, LinkUpdate, ProgInfo, ProgLoad, Query, TestRun,
};
use super::map::raw;
use super::{address, bpf, bpf_fd};

/// BPF_PROG_TYPE_SCHED_CLS.
pub(crate) const SCHED_CLS: u32 = 3;
/// BPF_PROG_TYPE_SYSCALL.
pub(crate) const SYSCALL: u32 = 31;
/// BPF_TCX_INGRESS, BPF_TCX_EGRESS.
pub(crate) const TCX_INGRESS: u32 = 46;
pub(crate) const TCX_EGRESS: u32 = 47;
/// BPF_F_BEFORE: before all others, as no other is named.
const BEFORE: u32 = 1 << 3;
/// BPF_F_SLEEPABLE.
const SLEEPABLE: u32 = 1 << 4;
/// Bytes of the verifier's words that are kept.
const LOG: usize = 1 << 20;
/// Most programs of others that are counted at one place.
const MOST: usize = 64;

/// A program.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

/// Why a program was not loaded.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: io::Error,
    /// The verifier's last words.
    pub(crate) log: String,
}

/// What a test run made of a frame.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// What the program returned.
    pub(crate) ret: u32,
    /// The frame.
    pub(crate) frame: Vec<u8>,
    /// `struct __sk_buff` afterwards.
    pub(crate) context: Vec<u8>,
}

impl Program {
    /// Loads one.
    pub(crate) fn load(
        name: &str,
        kind: u32,
        code: &[u64],
        license: &CStr,
    ) -> Result<Self, Refused> {
        let without_log = Self::try_load(name, kind, code, license, &mut []);
        let error = match without_log {
            Ok(program) => return Ok(program),
            Err(error) => error,
        };
        // Only one that is refused is worth the verifier's words.
        let mut log = vec![0; LOG];
        match Self::try_load(name, kind, code, license, &mut log) {
            Ok(program) => Ok(program),
            Err(_) => Err(Refused {
                error,
                log: last_words(&log),
            }),
        }
    }

    fn try_load(
        name: &str,
        kind: u32,
        code: &[u64],
        license: &CStr,
        log: &mut [u8],
    ) -> io::Result<Self> {
        let mut attr = ProgLoad {
            kind,
            instructions: u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            code: address(code),
            license: address(license.as_ptr()),
            flags: if kind == SYSCALL { SLEEPABLE } else { 0 },
            name: attr::name(name),
            ..ProgLoad::default()
        };
        if !log.is_empty() {
            attr.log_level = 1;
            attr.log_size = u32::try_from(log.len()).unwrap_or(u32::MAX);
            attr.log = address(log.as_mut_ptr());
        }
        // SAFETY: it is this command's struct; code, licence and log are as long as it says, or end with a zero, and
        // outlive the call.
        unsafe { bpf_fd(attr::PROG_LOAD, &mut attr).map(Self) }
    }

    /// Its number and its tag, the hash of its instructions.
    pub(crate) fn info(&self) -> io::Result<(u32, [u8; 8])> {
        let mut info = ProgInfo::default();
        let mut attr = Info {
            fd: raw(self.as_fd()),
            len: narrow::to_u32(size_of::<ProgInfo>()),
            info: address(&raw mut info),
        };
        // SAFETY: it is this command's struct; the pointer leads to `info`, which is as long as it says.
        unsafe { bpf(attr::OBJ_INFO, &mut attr)? };
        Ok((info.id, info.tag))
    }

    /// BPF_LINK_CREATE at tcx, before all others.
    pub(crate) fn link(&self, ifindex: u32, at: u32) -> io::Result<OwnedFd> {
        let mut attr = LinkCreate {
            program: raw(self.as_fd()),
            ifindex,
            attach: at,
            flags: BEFORE,
            ..LinkCreate::default()
        };
        // SAFETY: it is this command's struct, without pointers.
        unsafe { bpf_fd(attr::LINK_CREATE, &mut attr) }
    }

    /// BPF_LINK_UPDATE: takes the place of the program that a link holds.
    pub(crate) fn replace_at(&self, link: &OwnedFd) -> io::Result<()> {
        let mut attr = LinkUpdate {
            link: raw(link.as_fd()),
            program: raw(self.as_fd()),
            ..LinkUpdate::default()
        };
        // SAFETY: it is this command's struct, without pointers.
        unsafe { bpf(attr::LINK_UPDATE, &mut attr).map(drop) }
    }

    /// BPF_PROG_TEST_RUN of a frame with this `struct __sk_buff`.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn run_frame(&self, frame: &[u8], context: &[u8]) -> io::Result<Ran> {
        let mut ran = Ran {
            ret: 0,
            frame: vec![0; frame.len() + 256],
            context: vec![0; context.len()],
        };
        let short = |len: usize| u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput);
        let mut attr = TestRun {
            program: raw(self.as_fd()),
            size_in: short(frame.len())?,
            size_out: short(ran.frame.len())?,
            data_in: address(frame),
            data_out: address(ran.frame.as_mut_ptr()),
            context_size_in: short(context.len())?,
            context_size_out: short(context.len())?,
            context_in: address(context),
            context_out: address(ran.context.as_mut_ptr()),
            ..TestRun::default()
        };
        // SAFETY: it is this command's struct; all four pointers lead to slices as long as it says.
        unsafe { bpf(attr::PROG_TEST_RUN, &mut attr)? };
        ran.frame.truncate(attr.size_out as usize);
        ran.ret = attr.ret;
        Ok(ran)
    }

    /// BPF_PROG_TEST_RUN of a `SYSCALL` program, which is how these are called.
    pub(crate) fn call(&self) -> io::Result<()> {
        let mut attr = TestRun {
            program: raw(self.as_fd()),
            ..TestRun::default()
        };
        // SAFETY: it is this command's struct, without pointers.
        unsafe { bpf(attr::PROG_TEST_RUN, &mut attr).map(drop) }
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// BPF_LINK_DETACH: ends a link at once, whoever has it open. One that is only closed or unpinned ends a moment later.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkDetach { link: raw(link) };
    // SAFETY: it is this command's struct, without pointers.
    unsafe { bpf(attr::LINK_DETACH, &mut attr).map(drop) }
}

/// The numbers of the programs at an interface's tcx, in their order.
pub(crate) fn at_tcx(ifindex: u32, at: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; MOST];
    let mut attr = Query {
        ifindex,
        attach: at,
        ids: address(ids.as_mut_ptr()),
        count: narrow::to_u32(MOST),
        ..Query::default()
    };
    // SAFETY: it is this command's struct; the pointer leads to as many numbers as it says.
    unsafe { bpf(attr::PROG_QUERY, &mut attr)? };
    ids.truncate(attr.count as usize);
    Ok(ids)
}

/// The end of the verifier's words: what it did not like, and where.
fn last_words(log: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(log).map_or_else(|_| "".into(), CStr::to_string_lossy);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(12);
    lines[from..].join("\n")
}

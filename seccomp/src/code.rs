//! The instructions that a filter is made of. It sees a call's number, its machine and its arguments, and no memory.

use libc::sock_filter;

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 (linux/audit.h): what this program's own calls are.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: u32 = 0xc000_003e;
/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64 (linux/audit.h): what this program's own calls are.
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where `struct seccomp_data` has the call's number.
pub const NUMBER: u32 = 0;
/// Where it has the machine.
pub const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A condition (BPF_JMP|BPF_K, linux/bpf_common.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum If {
    /// What was loaded is this.
    Equal(u32),
    /// It is more.
    Above(u32),
    /// It has one of these bits.
    AnyBit(u32),
}

/// Loads a word of `struct seccomp_data`.
pub const fn load(place: u32) -> sock_filter {
    // BPF_LD|BPF_W|BPF_ABS
    instruction(0x20, place, 0, 0)
}

/// Ends with a verdict.
pub const fn give(verdict: u32) -> sock_filter {
    // BPF_RET|BPF_K
    instruction(0x06, verdict, 0, 0)
}

/// Leaves out so many instructions where the condition holds, and so many where it does not.
pub const fn jump(condition: If, holds: u8, holds_not: u8) -> sock_filter {
    let (code, k) = match condition {
        If::Equal(k) => (0x15, k),
        If::Above(k) => (0x25, k),
        If::AnyBit(k) => (0x45, k),
    };
    instruction(code, k, holds, holds_not)
}

/// Where an argument's low half is: both machines have it first.
pub const fn low(argument: u32) -> u32 {
    ARGUMENTS + 8 * argument
}

/// And the high one.
pub const fn high(argument: u32) -> u32 {
    low(argument) + 4
}

const fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

//! The system calls that are refused, by what they could be used for, and the filters that refuse them.
//!
//! A list of what is refused and not of what is allowed: a plugin is anybody's code, a libc uses what the kernel has, and a list that lacks
//! one call would stop a director that was well. The kernel's newer calls than those that this list was made
//! from do not exist for the daemon (ENOSYS), as on an older kernel, so that a libc falls back on what it knows.

use libc::{c_long, sock_filter};
use uvs_seccomp::code::{ARCHITECTURE, If, MACHINE, NUMBER, give, jump, load, low};

/// Calls that could be used for one thing.
#[derive(Debug)]
pub struct Group {
    /// What that is.
    pub what: &'static str,
    /// The calls by their names.
    pub calls: &'static [(&'static str, c_long)],
    /// Whether programs that the daemon starts may make them all the same; these may not start others otherwise.
    pub programs_may: bool,
}

macro_rules! calls {
    ($($(#[$only:meta])? $name:ident $number:ident),* $(,)?) => {
        &[$($(#[$only])? (stringify!($name), libc::$number)),*]
    };
}

/// All of them; docs/security.md has the same table.
pub const GROUPS: &[Group] = &[
    Group {
        what: "to start a program",
        calls: calls![execve SYS_execve, execveat SYS_execveat],
        programs_may: true,
    },
    Group {
        what: "to look into other processes, or take from them",
        calls: calls![
            ptrace SYS_ptrace,
            process_vm_readv SYS_process_vm_readv,
            process_vm_writev SYS_process_vm_writev,
            process_madvise SYS_process_madvise,
            pidfd_getfd SYS_pidfd_getfd,
            kcmp SYS_kcmp,
        ],
        programs_may: true,
    },
    Group {
        what: "to act past this filter, or to watch the machine",
        calls: calls![
            io_uring_setup SYS_io_uring_setup,
            io_uring_enter SYS_io_uring_enter,
            io_uring_register SYS_io_uring_register,
            userfaultfd SYS_userfaultfd,
            perf_event_open SYS_perf_event_open,
            fanotify_init SYS_fanotify_init,
            open_by_handle_at SYS_open_by_handle_at,
            add_key SYS_add_key,
            request_key SYS_request_key,
            keyctl SYS_keyctl,
            personality SYS_personality,
        ],
        programs_may: true,
    },
    Group {
        what: "to enter or make namespaces, in which it would have all rights again",
        calls: calls![unshare SYS_unshare, setns SYS_setns],
        programs_may: false,
    },
    Group {
        what: "to become another user",
        calls: calls![
            setuid SYS_setuid,
            setgid SYS_setgid,
            setreuid SYS_setreuid,
            setregid SYS_setregid,
            setresuid SYS_setresuid,
            setresgid SYS_setresgid,
            setgroups SYS_setgroups,
            setfsuid SYS_setfsuid,
            setfsgid SYS_setfsgid,
        ],
        programs_may: false,
    },
    Group {
        what: "to change what is mounted",
        calls: calls![
            mount SYS_mount,
            umount2 SYS_umount2,
            pivot_root SYS_pivot_root,
            chroot SYS_chroot,
            open_tree SYS_open_tree,
            move_mount SYS_move_mount,
            fsopen SYS_fsopen,
            fsconfig SYS_fsconfig,
            fsmount SYS_fsmount,
            fspick SYS_fspick,
            mount_setattr SYS_mount_setattr,
            swapon SYS_swapon,
            swapoff SYS_swapoff,
            quotactl SYS_quotactl,
            quotactl_fd SYS_quotactl_fd,
        ],
        programs_may: false,
    },
    Group {
        what: "to change the kernel, the machine or its clock",
        calls: calls![
            init_module SYS_init_module,
            finit_module SYS_finit_module,
            delete_module SYS_delete_module,
            kexec_load SYS_kexec_load,
            kexec_file_load SYS_kexec_file_load,
            reboot SYS_reboot,
            acct SYS_acct,
            syslog SYS_syslog,
            vhangup SYS_vhangup,
            sethostname SYS_sethostname,
            setdomainname SYS_setdomainname,
            settimeofday SYS_settimeofday,
            clock_settime SYS_clock_settime,
            clock_adjtime SYS_clock_adjtime,
            adjtimex SYS_adjtimex,
            #[cfg(target_arch = "x86_64")]
            iopl SYS_iopl,
            #[cfg(target_arch = "x86_64")]
            ioperm SYS_ioperm,
            #[cfg(target_arch = "x86_64")]
            modify_ldt SYS_modify_ldt,
        ],
        programs_may: false,
    },
];

/// The newest call that the groups were chosen from: removexattrat, Linux 6.13, of the same number on both machines.
const NEWEST: u32 = 466;
/// CLONE_NEWTIME to CLONE_NEWNET: all that makes a namespace, by the flags of `clone` (linux/sched.h).
const NEW_NAMESPACES: u32 = 0x0000_0080
    | 0x0002_0000
    | 0x0200_0000
    | 0x0400_0000
    | 0x0800_0000
    | 0x1000_0000
    | 0x2000_0000
    | 0x4000_0000;

const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// The name of a call that is refused.
pub(super) fn name(number: i64) -> Option<&'static str> {
    let of_groups = GROUPS.iter().flat_map(|group| group.calls);
    let of_others = [("clone", libc::SYS_clone), ("bpf", libc::SYS_bpf)];
    let mut all = of_groups.copied().chain(of_others);
    all.find(|(_, known)| *known == number)
        .map(|(name, _)| name)
}

/// For all threads but the one that starts programs: `verdict` on each call of the groups, on `bpf` where there is no hook, and on
/// `clone` for a namespace. `clone3`, whose flags no filter sees, does not exist; libc makes threads by `clone` then.
pub(super) fn of_threads(verdict: u32, may_bpf: bool) -> Vec<sock_filter> {
    let all = GROUPS.iter().flat_map(|group| group.calls);
    let bpf = (!may_bpf).then_some(libc::SYS_bpf);
    let numbers = all.map(|(_, number)| *number).chain(bpf);
    let mut code = begin();
    code.extend([
        jump(If::Equal(number(libc::SYS_clone3)), 0, 1),
        give(UNKNOWN),
        jump(If::Equal(number(libc::SYS_clone)), 0, 4),
        load(low(0)),
        jump(If::AnyBit(NEW_NAMESPACES), 0, 1),
        give(verdict),
        give(libc::SECCOMP_RET_ALLOW),
    ]);
    end(code, numbers, verdict)
}

/// For the thread that starts programs, and so for these.
pub(super) fn of_started_programs() -> Vec<sock_filter> {
    let all = GROUPS.iter().filter(|group| !group.programs_may);
    let numbers = all.flat_map(|group| group.calls).map(|(_, number)| *number);
    // A libc of theirs and a later release may know more.
    end(machine(), numbers, REFUSED)
}

/// The daemon itself: programs by other machines' numbers (32 bits, x32) have no part in it.
fn begin() -> Vec<sock_filter> {
    let mut code = machine();
    code.extend([jump(If::Above(NEWEST), 0, 1), give(UNKNOWN)]);
    code
}

/// Loads the number of a call that is this machine's; others are refused.
fn machine() -> Vec<sock_filter> {
    vec![
        load(MACHINE),
        jump(If::Equal(ARCHITECTURE), 1, 0),
        give(REFUSED),
        load(NUMBER),
    ]
}

fn end(
    mut code: Vec<sock_filter>,
    numbers: impl Iterator<Item = c_long>,
    verdict: u32,
) -> Vec<sock_filter> {
    for one in numbers {
        code.extend([jump(If::Equal(number(one)), 0, 1), give(verdict)]);
    }
    code.push(give(libc::SECCOMP_RET_ALLOW));
    code
}

/// No call has a negative one, or one of more bits.
fn number(of: c_long) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

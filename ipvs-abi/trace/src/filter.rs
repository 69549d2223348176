//! The filter: which system calls the kernel asks about. It sees numbers and arguments, and no memory; so it lets
//! pass what cannot be for IPVS by these, and the rest is looked at by `calls`.

use std::io;
use std::os::fd::OwnedFd;

use libc::{c_long, sock_filter};
use uvs_seccomp::code::{ARCHITECTURE, If, MACHINE, NUMBER, give, high, jump, load, low};

/// Bytes of `struct sockaddr_nl`.
pub(crate) const NETLINK_ADDRESS: u32 = 12;

/// What an argument must be for the call to be asked about.
enum Condition {
    /// One of these, in its low 32 bits.
    Is(u32, &'static [u32]),
    /// No null pointer.
    Given(u32),
    /// None of these bits.
    Without(u32, u32),
}

use Condition::{Given, Is, Without};

/// The calls that are asked about, with what their arguments must be.
const CALLS: &[(c_long, &[Condition])] = &[
    (libc::SYS_sendto, &[Is(5, &[0, NETLINK_ADDRESS])]),
    (libc::SYS_sendmsg, &[]),
    (libc::SYS_recvfrom, &[Given(4)]),
    (libc::SYS_recvmsg, &[]),
    (libc::SYS_bind, &[Is(2, &[NETLINK_ADDRESS])]),
    (libc::SYS_connect, &[Is(2, &[NETLINK_ADDRESS])]),
    (libc::SYS_getsockname, &[]),
    // SOL_IP and SOL_NETLINK.
    (libc::SYS_setsockopt, &[Is(1, &[0, 270])]),
    (libc::SYS_getsockopt, &[Is(1, &[0])]),
    // O_WRONLY and O_RDWR: what is written to is no file of IPVS's.
    (libc::SYS_openat, &[Without(2, 3)]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, &[Without(1, 3)]),
];

/// The program for the kernel.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut all = vec![
        load(MACHINE),
        jump(If::Equal(ARCHITECTURE), 1, 0),
        give(libc::SECCOMP_RET_ALLOW),
        load(NUMBER),
    ];
    for (number, conditions) in CALLS {
        let mut body: Vec<_> = conditions.iter().flat_map(check).collect();
        body.push(give(libc::SECCOMP_RET_USER_NOTIF));
        let number = u32::try_from(*number).unwrap_or(u32::MAX);
        all.push(jump(If::Equal(number), 0, distance(body.len())));
        all.extend(body);
    }
    all.push(give(libc::SECCOMP_RET_ALLOW));
    all
}

/// Goes on behind its end, or lets the call pass.
fn check(condition: &Condition) -> Vec<sock_filter> {
    let allow = give(libc::SECCOMP_RET_ALLOW);
    match *condition {
        Is(argument, values) => {
            let mut code = vec![load(low(argument))];
            let jumps = values.iter().enumerate();
            code.extend(
                jumps.map(|(n, value)| jump(If::Equal(*value), distance(values.len() - n), 0)),
            );
            code.push(allow);
            code
        }
        Given(argument) => vec![
            load(low(argument)),
            jump(If::Above(0), 3, 0),
            load(high(argument)),
            jump(If::Above(0), 1, 0),
            allow,
        ],
        Without(argument, bits) => {
            vec![load(low(argument)), jump(If::AnyBit(bits), 0, 1), allow]
        }
    }
}

/// Puts the filter in force for this process, which gives the rights of setuid programs up where it may not else.
/// Allocates nothing: it is called between fork and exec.
///
/// # Errors
/// EBUSY where a process above has such a filter already, EINVAL before Linux 5.19.
pub(crate) fn install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    match try_install(program) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            rustix::thread::set_no_new_privs(true)?;
            try_install(program)
        }
        result => result,
    }
}

fn try_install(program: &[sock_filter]) -> io::Result<OwnedFd> {
    // A signal would have a call repeated that has been answered: a datagram would be lost.
    uvs_seccomp::ask(program, libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
}

/// Bodies are a few instructions.
fn distance(instructions: usize) -> u8 {
    u8::try_from(instructions).unwrap_or(u8::MAX)
}

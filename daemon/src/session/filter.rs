//! The system calls that programs in a session cannot make: what looks into or changes other processes, makes mounts or
//! namespaces, reaches the kernel's key rings, opens files past their paths, or speaks to the network below sockets. All
//! others stay: applications are many, and what they need is not known. Files, processes and networks are fenced
//! by namespaces and Landlock; this list keeps programs away from the kernel's less trodden parts.

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Refused with `EPERM`, whatever the arguments.
const REFUSED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Files past their paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // Key rings, which are not part of any namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Parts of the kernel that have no use in an office program.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
];

/// `clone` with any of these makes a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Address families of sockets that are left; what they can reach is nothing outside the session's network namespace.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Kinds of sockets that are left.
const KINDS: [libc::c_int; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
/// The bits of a socket's kind that are not flags.
const KIND: u64 = 0xf;

/// Calls by the x32 numbering are other calls to a filter.
const X32: libc::c_long = 0x4000_0000;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters, all of which must allow a call, as the kernel takes them: arrays of `struct sock_filter`.
///
/// # Errors
/// A bug, or a processor that the filter does not know.
pub(super) fn programs() -> Result<[Vec<u8>; 2], BackendError> {
    // glibc falls back to `clone`, whose flags a filter can see.
    let fallback = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([filter(fallback, libc::ENOSYS)?, filter(refused()?, libc::EPERM)?])
}

fn filter(rules: Rules, errno: libc::c_int) -> Result<Vec<u8>, BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?.try_into()?;
    Ok(program.iter().flat_map(bytes).collect())
}

fn bytes(step: &seccompiler::sock_filter) -> [u8; 8] {
    let ([a, b], [e, f, g, h]) = (step.code.to_ne_bytes(), step.k.to_ne_bytes());
    [a, b, step.jt, step.jf, e, f, g, h]
}

fn refused() -> Result<Rules, BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let any = |argument, values: &[u64], operator: fn(u64) -> SeccompCmpOp| {
        let rule = |value: &u64| SeccompRule::new(vec![word(argument, operator(*value), *value)?]);
        values.iter().map(rule).collect::<Result<Vec<_>, _>>()
    };
    rules.insert(libc::SYS_clone, any(0, &NAMESPACES.map(number), SeccompCmpOp::MaskedEq)?);
    // Typing into the terminal that called, and pasting into a console.
    rules.insert(libc::SYS_ioctl, any(1, &[libc::TIOCSTI, libc::TIOCLINUX], |_| SeccompCmpOp::Eq)?);
    rules.insert(libc::SYS_socket, sockets()?);
    if cfg!(target_arch = "x86_64") {
        let again: Rules = rules.iter().map(|(call, rules)| (*call | X32, rules.clone())).collect();
        rules.extend(again);
    }
    Ok(rules)
}

fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let netlink = number(libc::AF_NETLINK);
    let other_family =
        FAMILIES.iter().map(|family| word(0, SeccompCmpOp::Ne, number(*family))).collect::<Result<_, _>>()?;
    // Of netlink, the list of (no) network interfaces is left; libraries ask for it by a raw socket.
    let other_netlink =
        vec![word(0, SeccompCmpOp::Eq, netlink)?, word(2, SeccompCmpOp::Ne, number(libc::NETLINK_ROUTE))?];
    let mut rules = vec![SeccompRule::new(other_family)?, SeccompRule::new(other_netlink)?];
    for other in (0..=KIND).filter(|kind| !KINDS.map(number).contains(kind)) {
        let kind = word(1, SeccompCmpOp::MaskedEq(KIND), other)?;
        rules.push(SeccompRule::new(vec![word(0, SeccompCmpOp::Ne, netlink)?, kind])?);
    }
    Ok(rules)
}

/// A constant as the kernel sees it in an argument of 32 bits.
fn number(constant: libc::c_int) -> u64 {
    u64::from(constant.cast_unsigned())
}

fn word(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

//! The lab's only unsafe code: system calls that `std`, `nix` and `socket2` have no safe call for, each behind a safe
//! one.

pub mod packets;
pub mod ring;
pub mod tun;

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A handle to a process that becomes readable when the process ends (`pidfd_open(2)`).
pub fn pidfd(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let handle = check(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) } as c_int)?;
    // SAFETY: the call returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

/// Sets a socket option to a plain value.
fn set_option<T: Copy>(socket: &impl AsRawFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes from `value`, which is exactly its size.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    })
    .map(drop)
}

/// The return value of a system call, or its error.
fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// Puts the calling thread before all ordinary ones: `SCHED_FIFO` at the lowest priority (sched(7)).
pub fn go_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads one sched_param, which outlives the call; 0 means the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) }).map(drop)
}

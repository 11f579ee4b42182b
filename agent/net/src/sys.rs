//! The system calls that no safe library offers: the only unsafe code of the agent.
//!
//! Each function builds what the kernel needs from plain references, calls it, and keeps nothing: no pointer
//! outlives the call it is made for.
#![expect(unsafe_code, reason = "sendmmsg, recvmmsg and a few socket options have no safe wrapper")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::control::CONTROL_LEN;
use crate::name::Name;

/// How many packets one system call carries at most.
pub(crate) const BATCH: usize = 64;

/// Lets each allocation of 128 KiB or more have pages of its own, which go back to the system when it is freed
/// (`mallopt(3)`, `M_MMAP_THRESHOLD`). By default the C library raises that limit with the first such allocation, and what
/// reading a configuration of 10,000 targets leaves behind stays resident: 2 MB. To be called first of all.
pub fn return_large_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and changes a number of the allocator; other threads do not exist yet, or wait.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Lets go of the memory of a part of the program's file (`madvise(2)`, `MADV_DONTNEED`): the next use of a page brings it
/// back as the file has it. Only for what cannot be written to and never was.
///
/// # Errors
/// The kernel's, such as `EINVAL` for what does not begin with a page.
pub(crate) fn drop_file_pages(part: Range<usize>) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(part.start);
    // SAFETY: the kernel itself named the range as a part of this program's file that cannot be written to and is as the
    // file has it, so each page there holds the same before and after.
    let result = unsafe { libc::madvise(start, part.len(), libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One packet for [`send`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) to: &'a Name,
    pub(crate) source: Option<&'a SourceAddress>,
}

/// The control message that makes an IPv4 packet leave from one address: `IP_PKTINFO` with `ipi_spec_dst`, which
/// `ip(7)` calls the local address of the packet.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct SourceAddress {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

/// Room for one received packet, for [`receive`].
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    /// Filled first.
    pub(crate) start: &'a mut [u8],
    /// Takes what does not fit there.
    pub(crate) rest: &'a mut [u8],
    pub(crate) name: &'a mut Name,
    pub(crate) control: &'a mut ControlBuffer,
}

/// Room for the control messages of one packet, aligned as `cmsg(3)` wants.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct ControlBuffer(pub(crate) [u8; CONTROL_LEN]);

/// What the kernel wrote into a [`Slot`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) bytes: usize,
    pub(crate) name: usize,
    pub(crate) control: usize,
    /// The packet was longer than its room.
    pub(crate) truncated: bool,
}

impl SourceAddress {
    pub(crate) fn new(address: Ipv4Addr) -> Self {
        // SAFETY: cmsghdr is plain integers, for which zero is a value; a literal would miss musl's padding.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>()) as _;
        header.cmsg_level = libc::IPPROTO_IP;
        header.cmsg_type = libc::IP_PKTINFO;
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        Self { header, info }
    }
}

/// Hands up to [`BATCH`] packets to the kernel in order (`sendmmsg(2)`).
///
/// # Errors
/// The first packet's errno. A later packet's failure shows as a smaller count, and hides its errno.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    messages: impl Iterator<Item = Message<'a>>,
) -> io::Result<usize> {
    // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut vectors = [EMPTY; BATCH];
    let mut count: libc::c_uint = 0;
    for ((header, vector), message) in headers.iter_mut().zip(&mut vectors).zip(messages) {
        *vector =
            libc::iovec { iov_base: message.bytes.as_ptr().cast_mut().cast(), iov_len: message.bytes.len() };
        let header = &mut header.msg_hdr;
        header.msg_name = ptr::from_ref(message.to).cast_mut().cast();
        header.msg_namelen = message.to.len() as libc::socklen_t;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if let Some(source) = message.source {
            header.msg_control = ptr::from_ref(source).cast_mut().cast();
            header.msg_controllen = size_of::<SourceAddress>() as _;
        }
        count += 1;
    }
    // SAFETY: the first `count` headers are filled. Their pointers come from `vectors` and from references that
    // live through 'a, so all are valid for this call with the lengths beside them; sendmmsg only reads them and
    // writes nothing but `msg_len` in `headers`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Fills slots with what waits in a socket's data queue, or its error queue if `flags` has `MSG_ERRQUEUE`
/// (`recvmmsg(2)`); never blocks. Tells in `written` what went into each slot.
///
/// # Errors
/// `WouldBlock` if nothing waits; or an errno that was pending on the socket, which says nothing about the queue.
pub(crate) fn receive<'a>(
    socket: BorrowedFd<'_>,
    flags: libc::c_int,
    slots: impl Iterator<Item = Slot<'a>>,
    written: &mut Vec<Written>,
) -> io::Result<()> {
    written.clear();
    // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut vectors = [[EMPTY; 2]; BATCH];
    let mut count: libc::c_uint = 0;
    for ((header, vector), slot) in headers.iter_mut().zip(&mut vectors).zip(slots) {
        *vector = [slot.start, slot.rest]
            .map(|room| libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() });
        let header = &mut header.msg_hdr;
        header.msg_name = ptr::from_mut(slot.name).cast();
        header.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_iov = vector.as_mut_ptr();
        header.msg_iovlen = vector.len() as _;
        header.msg_control = ptr::from_mut(slot.control).cast();
        header.msg_controllen = size_of::<ControlBuffer>() as _;
        count += 1;
    }
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the first `count` headers are filled. Their pointers come from `vectors` and from exclusive
    // references that live through 'a, so the kernel may write all of their bytes, of which every pattern is a
    // value (u8 arrays); a null timeout is allowed.
    let received =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags, ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    written.extend(headers.iter().take(received).map(|header| Written {
        bytes: header.msg_len as usize,
        name: header.msg_hdr.msg_namelen as usize,
        control: header.msg_hdr.msg_controllen as _,
        truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
    }));
    Ok(())
}

/// Sets an option whose value is one or more 32-bit integers (`setsockopt(2)`).
///
/// # Errors
/// The kernel's.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u32],
) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: `value` is `length` readable bytes, and setsockopt only reads them.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a socket's receive queue holds, may hold, and has dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Bytes that wait, by the kernel's accounting.
    pub(crate) queued: u32,
    /// Bytes that may wait.
    pub(crate) room: u32,
    /// Packets dropped, modulo 2³².
    pub(crate) dropped: u32,
}

/// Reads `SO_MEMINFO` (`sock_diag(7)`).
///
/// # Errors
/// The kernel's.
pub(crate) fn memory(socket: BorrowedFd<'_>) -> io::Result<Memory> {
    const SO_MEMINFO: libc::c_int = 55;
    let mut info = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is `length` writable bytes, and getsockopt writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF, …, SK_MEMINFO_DROPS
    let [queued, room, .., dropped] = info;
    if result == 0 { Ok(Memory { queued, room, dropped }) } else { Err(io::Error::last_os_error()) }
}

/// Reads `TCP_INFO` (`tcp(7)`).
///
/// # Errors
/// The kernel's.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is `length` writable bytes, and getsockopt writes no more than that; older kernels write less.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

const EMPTY: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

// What the kernel is told about these types is what they are.
const _: () = assert!(
    size_of::<SourceAddress>() == size_of::<libc::cmsghdr>() + size_of::<[u64; 2]>()
        && size_of::<ControlBuffer>() == CONTROL_LEN
);

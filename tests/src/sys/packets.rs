//! Many packets with one system call, and the kernel's stamps of them: `sendmmsg(2)`, `recvmmsg(2)` and
//! `SO_TIMESTAMPING` (<https://docs.kernel.org/networking/timestamping.html>).
//!
//! For the bare driver that the benchmarks call the limit: it does what any prober must, and nothing else.

use super::set_option;
use socket2::{SockAddr, Socket};
use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

/// The most packets that one call sends or receives.
pub const MAX_BATCH: usize = 64;

const BYTES: usize = 256;
/// Control messages are read as words, which aligns them as the kernel wants.
const CONTROL_WORDS: usize = 32;

/// Which of a socket's two queues to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Packets received.
    Data,
    /// Transmit stamps and ICMP errors (`MSG_ERRQUEUE`).
    Errors,
}

/// Asks for kernel stamps of what is received and of what is sent; of the latter only the stamp comes back, not the
/// packet.
pub fn stamp_both_ways(socket: &Socket) -> io::Result<()> {
    let flags = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_RX_SOFTWARE
        | libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &flags)
}

/// Sets both buffers of a socket to a size in bytes, beyond the system's limit (needs `NET_ADMIN`).
pub fn force_buffers(socket: &Socket, bytes: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
}

/// Sends packets, the first to the first address and so on, in one call; returns how many were accepted.
///
/// # Errors
/// The kernel's error for the first packet, if that was refused.
pub fn send(socket: &Socket, packets: &[&[u8]], to: &[SockAddr]) -> io::Result<usize> {
    let mut parts = [EMPTY_PART; MAX_BATCH];
    let mut messages = [EMPTY_MESSAGE; MAX_BATCH];
    let mut count = 0;
    for (((packet, to), part), message) in packets.iter().zip(to).zip(&mut parts).zip(&mut messages) {
        part.iov_base = packet.as_ptr().cast_mut().cast();
        part.iov_len = packet.len();
        message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = to.len();
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` messages point to parts, addresses and packets that outlive the call, each with its
    // length; the kernel only reads them, and writes nothing but `msg_len`.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    counted(sent)
}

/// Memory to receive into.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[[u8; BYTES]; MAX_BATCH]>,
    control: Box<[[u64; CONTROL_WORDS]; MAX_BATCH]>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { bytes: Box::new([[0; BYTES]; MAX_BATCH]), control: Box::new([[0; CONTROL_WORDS]; MAX_BATCH]) }
    }
}

impl Inbox {
    /// Reads up to [`MAX_BATCH`] packets that wait in a queue, calls `each` with a packet's bytes and its kernel stamp
    /// (`CLOCK_REALTIME`, nanoseconds), and returns how many there were; zero if nothing waits.
    pub fn receive(
        &mut self,
        socket: &Socket,
        queue: Queue,
        mut each: impl FnMut(&[u8], Option<i64>),
    ) -> io::Result<usize> {
        let mut parts = [EMPTY_PART; MAX_BATCH];
        let mut messages = [EMPTY_MESSAGE; MAX_BATCH];
        let room = self.bytes.iter_mut().zip(self.control.iter_mut());
        for (((bytes, control), part), message) in room.zip(&mut parts).zip(&mut messages) {
            part.iov_base = bytes.as_mut_ptr().cast();
            part.iov_len = bytes.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of_val(control);
        }
        let flags = match queue {
            Queue::Data => libc::MSG_DONTWAIT,
            Queue::Errors => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE,
        };
        let (fd, all) = (socket.as_raw_fd(), MAX_BATCH as u32);
        // SAFETY: every message points to parts, bytes and control memory that outlive the call, each with its
        // length, and nothing else refers to that memory during the call.
        let received = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), all, flags, ptr::null_mut()) };
        let received = match counted(received) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        for ((message, bytes), control) in
            messages.iter().zip(self.bytes.iter()).zip(self.control.iter()).take(received)
        {
            let bytes = bytes.get(..message.msg_len as usize).unwrap_or(bytes);
            let control = control.get(..message.msg_hdr.msg_controllen / 8).unwrap_or(control);
            each(bytes, stamp(control));
        }
        Ok(received)
    }
}

/// The software stamp among control messages. A message is its length in bytes, header included; its level and its
/// type in one word; its data; padding to a whole word (`cmsg(3)`, 64 bit).
fn stamp(mut control: &[u64]) -> Option<i64> {
    loop {
        let [length, kind, data @ ..] = control else { return None };
        let [l0, l1, l2, l3, t0, t1, t2, t3] = kind.to_ne_bytes();
        let level = c_int::from_ne_bytes([l0, l1, l2, l3]);
        let kind = c_int::from_ne_bytes([t0, t1, t2, t3]);
        // SCM_TIMESTAMPING: three timespecs, of which the first is the software stamp.
        if let ([seconds, nanos, ..], libc::SOL_SOCKET, libc::SO_TIMESTAMPING) = (data, level, kind) {
            return Some(seconds.cast_signed() * 1_000_000_000 + nanos.cast_signed());
        }
        control = control.get((*length as usize).div_ceil(8).max(2)..)?;
    }
}

fn counted(returned: c_int) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
const EMPTY_MESSAGE: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};

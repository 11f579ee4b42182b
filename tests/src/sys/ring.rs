//! A packet socket's receive ring, `TPACKET_V3` (<https://docs.kernel.org/networking/packet_mmap.html>).
//!
//! The kernel fills blocks of memory that it shares with us and hands each over when it is full or some milliseconds
//! old. No system call is needed for a packet, and the ring holds what arrives while the reader is not running.

use super::{check, set_option};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const BLOCK_SIZE: usize = 1 << 20;
const BLOCKS: usize = 64;
/// After this time the kernel hands over a block that is not full, in milliseconds.
const RETIRE_MILLIS: u32 = 10;

/// The ring and its socket.
#[derive(Debug)]
pub struct Ring {
    socket: Socket,
    memory: NonNull<u8>,
    next_block: usize,
    read: u64,
}

/// A packet in the ring.
#[derive(Debug)]
pub struct Frame<'a> {
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub time_ns: i64,
    /// Whether this host sent it (`PACKET_OUTGOING`).
    pub outgoing: bool,
    /// The packet from its network header on.
    pub bytes: &'a [u8],
}

// SAFETY: the memory belongs to the ring alone and is not bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Captures both directions of an interface of the calling thread's network namespace.
    pub fn open(interface: u32) -> io::Result<Self> {
        // Protocol 0: nothing arrives before bind.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None::<Protocol>)?;
        set_option(
            &socket,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V3 as c_int),
        )?;
        // Makes the kernel stamp packets on arrival, for every socket alike, not only here and later.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &(1 as c_int))?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK_SIZE as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: 2048,
            tp_frame_nr: (BLOCK_SIZE / 2048 * BLOCKS) as u32,
            tp_retire_blk_tov: RETIRE_MILLIS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        let length = BLOCK_SIZE * BLOCKS;
        // SAFETY: a new mapping at an address of the kernel's choice replaces no memory of ours.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, socket.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory =
            NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mmap returned the null page"))?;
        let ring = Self { socket, memory, next_block: 0, read: 0 };
        ring.bind(interface)?;
        Ok(ring)
    }

    /// Waits until a block is there or the time is up. Being woken for nothing is harmless.
    pub fn wait(&self, at_most: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let millis = PollTimeout::from(at_most.as_millis().min(1000) as u16);
        match poll(&mut fds, millis) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands over all packets of finished blocks, oldest first.
    pub fn drain(&mut self, mut each: impl FnMut(Frame<'_>)) {
        while self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0 {
            self.read += Frames::of(self.block()).map(&mut each).count() as u64;
            self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next_block = (self.next_block + 1) % BLOCKS;
        }
    }

    /// How many packets were handed over so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Accepts no more packets. Those in the ring stay.
    pub fn close(&self) -> io::Result<()> {
        self.socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
        Ok(())
    }

    /// Packets that passed and packets among them that found the ring full, since the ring was opened. The kernel
    /// forgets them when asked: ask once.
    pub fn totals(&self) -> io::Result<(u64, u64)> {
        let mut stats = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        let (fd, value) = (self.socket.as_raw_fd(), (&raw mut stats).cast());
        // SAFETY: the kernel writes at most `length` bytes to `stats`, which is exactly its size.
        check(unsafe {
            libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut length)
        })?;
        Ok((stats.tp_packets.into(), stats.tp_drops.into()))
    }

    fn bind(&self, interface: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: interface.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel reads `length` bytes from `address`, which is exactly its size.
        check(unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
    }

    /// The status word of the next block: `block_status` of `tpacket_block_desc`, at offset 8.
    fn status(&self) -> &AtomicU32 {
        // SAFETY: the offset lies inside the mapping, since `next_block` is below BLOCKS.
        let word = unsafe { self.memory.as_ptr().add(self.next_block * BLOCK_SIZE + 8) };
        // SAFETY: blocks are aligned to pages; the word is shared with the kernel and only accessed as an atomic.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// The next block's bytes. Only while its status says that it is ours.
    fn block(&self) -> &[u8] {
        // SAFETY: the offset lies inside the mapping, since `next_block` is below BLOCKS.
        let start = unsafe { self.memory.as_ptr().add(self.next_block * BLOCK_SIZE) };
        // SAFETY: the mapping has BLOCK_SIZE bytes from there, and the kernel does not write to a block that is ours
        // until `drain` gives it back, after the borrow ended.
        unsafe { std::slice::from_raw_parts(start, BLOCK_SIZE) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this length, and no borrow of it outlives the ring.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK_SIZE * BLOCKS) };
    }
}

/// The frames of one block, read at the offsets of `tpacket_block_desc`, `tpacket3_hdr` and `sockaddr_ll`.
struct Frames<'a> {
    block: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Frames<'a> {
    fn of(block: &'a [u8]) -> Self {
        let left = word(block, 12).unwrap_or(0);
        let at = word(block, 16).unwrap_or(0) as usize;
        Self { block, at, left }
    }

    fn read(&self) -> Option<(Frame<'a>, usize)> {
        let header = self.block.get(self.at..)?;
        let next = word(header, 0)? as usize;
        let (seconds, nanos) = (i64::from(word(header, 4)?), i64::from(word(header, 8)?));
        let captured = word(header, 12)? as usize;
        let network = usize::from(u16::from_ne_bytes([*header.get(26)?, *header.get(27)?]));
        let address = header.get(48..)?;
        let outgoing = *address.get(10)? == libc::PACKET_OUTGOING;
        let bytes = header.get(network..network + captured)?;
        Some((Frame { time_ns: seconds * 1_000_000_000 + nanos, outgoing, bytes }, next))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (frame, next) = self.read()?;
        self.at += next;
        Some(frame)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

//! Waiting for the next tick or for another thread, whichever comes first.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use podsonar_core::time::Instant;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Wakes the driver thread at absolute times of `CLOCK_MONOTONIC` (`timerfd_create(2)`, to which timer slack does
/// not apply) or when a [`Waker`] is used.
#[derive(Debug)]
pub struct Ticker {
    timer: OwnedFd,
    signal: Arc<OwnedFd>,
    epoll: OwnedFd,
}

/// Wakes the [`Ticker`] it comes from, from any thread. Signals that nobody waited for yet merge into one.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

/// Why [`Ticker::wait_until`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The deadline has passed.
    Deadline,
    /// A [`Waker`] was used. If the deadline has passed too, the next wait says so at once.
    Signal,
}

const TIMER: u64 = 0;
const SIGNAL: u64 = 1;

impl Ticker {
    /// Makes the timer, the signal and the epoll set that waits for both.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory run out.
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &signal, epoll::EventData::new_u64(SIGNAL), epoll::EventFlags::IN)?;
        Ok(Self { timer, signal: Arc::new(signal), epoll })
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.signal))
    }

    /// Sleeps until `deadline` (for ever if there is none) or a signal, which is thereby used up.
    ///
    /// # Errors
    /// The kernel's; none is known for descriptors that are ours alone.
    pub fn wait_until(&self, deadline: Option<Instant>) -> io::Result<Woken> {
        // Setting the timer also forgets its last expiry, so that it needs no read.
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once(deadline))?;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 2];
        let ready = loop {
            match epoll::wait(&self.epoll, &mut events, None) {
                Ok(ready) => break ready,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        if events.iter().take(ready).any(|event| event.data.u64() == SIGNAL) {
            let mut count = [0; 8];
            rustix::io::read(&self.signal, &mut count)?;
            return Ok(Woken::Signal);
        }
        Ok(Woken::Deadline)
    }
}

impl Waker {
    /// Ends the current wait, or the next one if nobody waits.
    pub fn wake(&self) {
        // The only refusal is that the counter is full: then a signal is waiting already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// A timer that fires once, or never. Zero would disarm it, so the clock's start is one nanosecond later.
fn once(deadline: Option<Instant>) -> Itimerspec {
    let nanos = deadline.map_or(0, |deadline| deadline.as_nanos().max(1));
    let time = |nanos: u64| Timespec {
        tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: (nanos % 1_000_000_000).cast_signed(),
    };
    Itimerspec { it_interval: time(0), it_value: time(nanos) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::read_clocks;

    #[test]
    fn a_deadline_is_waited_for_and_a_past_one_is_not() {
        let ticker = Ticker::new().unwrap();
        let deadline = read_clocks().mono + Duration::from_millis(2);
        assert_eq!(ticker.wait_until(Some(deadline)).unwrap(), Woken::Deadline);
        assert!(read_clocks().mono >= deadline);
        for past in [deadline, Instant::from_nanos(0)] {
            assert_eq!(ticker.wait_until(Some(past)).unwrap(), Woken::Deadline);
        }
    }

    #[test]
    fn a_signal_from_another_thread_ends_a_wait_without_deadline() {
        let ticker = Ticker::new().unwrap();
        let waker = ticker.waker();
        let other = std::thread::spawn(move || waker.wake());
        assert_eq!(ticker.wait_until(None).unwrap(), Woken::Signal);
        other.join().unwrap();
    }

    #[test]
    fn signals_merge_and_are_used_up() {
        let ticker = Ticker::new().unwrap();
        let waker = ticker.waker();
        waker.wake();
        waker.clone().wake();
        let past = Some(Instant::from_nanos(1));
        assert_eq!(ticker.wait_until(None).unwrap(), Woken::Signal);
        assert_eq!(ticker.wait_until(past).unwrap(), Woken::Deadline);
    }

    #[test]
    fn an_old_deadline_does_not_end_a_new_wait() {
        let ticker = Ticker::new().unwrap();
        assert_eq!(ticker.wait_until(Some(Instant::from_nanos(1))).unwrap(), Woken::Deadline);
        let deadline = read_clocks().mono + Duration::from_millis(2);
        assert_eq!(ticker.wait_until(Some(deadline)).unwrap(), Woken::Deadline);
        assert!(read_clocks().mono >= deadline);
    }
}

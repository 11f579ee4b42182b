//! The process' own use of the machine, from `/proc/self` (proc(5)). What cannot be read is left out.

use std::fs;

/// Clock ticks in a second as `/proc` counts them: `USER_HZ` is 100 on every architecture that podsonar runs on.
const USER_HZ: f64 = 100.0;

/// User and system time used so far, in seconds.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; count from its end.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / USER_HZ)
}

/// Resident memory in bytes (`VmRSS`).
pub(super) fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

/// Virtual memory in bytes (`VmSize`).
pub(super) fn virtual_bytes() -> Option<u64> {
    status_bytes("VmSize:")
}

/// Open file descriptors.
pub(super) fn open_fds() -> Option<u64> {
    // The listing has a descriptor of its own.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64)
}

/// The soft limit of open file descriptors.
pub(super) fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_can_be_read_here() {
        assert!(cpu_seconds().is_some());
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(virtual_bytes().unwrap() >= resident_bytes().unwrap());
        assert!(open_fds().unwrap() >= 3);
        assert!(max_fds().unwrap() >= open_fds().unwrap());
    }
}

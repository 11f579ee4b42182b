//! What a refused send means.

use std::io;

use podsonar_core::outcome::SendError;

/// The meaning of a send's errno, as [`SendError`] documents it.
pub(crate) fn send_error(error: &io::Error) -> SendError {
    match error.raw_os_error() {
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => SendError::NoRoute,
        Some(libc::EPERM) => SendError::Firewall,
        Some(libc::EACCES) => SendError::Denied,
        Some(libc::ENOBUFS | libc::EAGAIN | libc::ENOMEM) => SendError::QueueFull,
        Some(libc::EMSGSIZE) => SendError::TooBig,
        Some(libc::EADDRNOTAVAIL | libc::EINVAL) => SendError::NoSource,
        _ => SendError::Other,
    }
}

/// Whether the errno may come from an ICMP error about somebody else's packet, which the kernel hands to the next
/// send of every raw socket (`icmp_err_convert` and `icmpv6_err_convert` in the kernel list them all).
pub(crate) fn may_be_foreign(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ECONNREFUSED
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
                | libc::EINTR
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_documented_meaning() {
        let meanings = [
            (libc::ENETUNREACH, SendError::NoRoute, true),
            (libc::EHOSTUNREACH, SendError::NoRoute, true),
            (libc::EPERM, SendError::Firewall, false),
            (libc::EACCES, SendError::Denied, true),
            (libc::ENOBUFS, SendError::QueueFull, false),
            (libc::EAGAIN, SendError::QueueFull, false),
            (libc::ENOMEM, SendError::QueueFull, false),
            (libc::EMSGSIZE, SendError::TooBig, true),
            (libc::EADDRNOTAVAIL, SendError::NoSource, false),
            (libc::EINVAL, SendError::NoSource, false),
            (libc::ECONNREFUSED, SendError::Other, true),
        ];
        for (errno, meaning, foreign) in meanings {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((send_error(&error), may_be_foreign(&error)), (meaning, foreign), "{error}");
        }
    }
}

//! What agents tell each other, as decisions: what became of asking a peer for its list, which of the pods that it
//! names are believed, and what all lists together mean.
//!
//! Bytes, sockets and HTTP are the agent's; here are only meanings.

pub mod address;
pub mod directory;

/// What became of asking a peer for its list. Closed: consumers match it without `_`. The text form is the label
/// `result` of `podsonar_exchange_total`; each fetch that falls due ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FetchResult {
    /// A list came and is used.
    Ok,
    /// The list that is known still holds (RFC 9110 §15.4.5).
    NotModified,
    /// An HTTP status says no, for example 403: somebody is alive there.
    Refused,
    /// It sends us elsewhere, where nobody goes.
    Redirected,
    /// What came is no list: no HTTP, no JSON, a field of another type.
    Malformed,
    /// The connection ended before the answer did.
    Broken,
    /// More headers or bytes than any list has.
    TooLarge,
    /// A list of another node than the one that was asked.
    WrongNode,
    /// A list whose version this agent does not read.
    OtherVersion,
    /// Not all of an answer came in time.
    Timeout,
    /// A TCP reset instead of a connection: the address is alive, and no agent listens.
    Reset,
    /// An ICMP error instead of a connection.
    Unreachable,
    /// This host sent nothing: no route, no port, too much under way.
    NotSent,
}

impl FetchResult {
    /// Every result, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Ok,
        Self::NotModified,
        Self::Refused,
        Self::Redirected,
        Self::Malformed,
        Self::Broken,
        Self::TooLarge,
        Self::WrongNode,
        Self::OtherVersion,
        Self::Timeout,
        Self::Reset,
        Self::Unreachable,
        Self::NotSent,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotModified => "not_modified",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
            Self::Malformed => "malformed",
            Self::Broken => "broken",
            Self::TooLarge => "too_large",
            Self::WrongNode => "wrong_node",
            Self::OtherVersion => "other_version",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Unreachable => "unreachable",
            Self::NotSent => "not_sent",
        }
    }

    /// Whether it brought a list, new or confirmed.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Ok | Self::NotModified)
    }
}

/// Why a pod in a peer's list, or an address of its node, is not probed; the rest of the list is used. The text form is the label `reason` of
/// `podsonar_exchange_refusals_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// Beyond the most pods that a node may have.
    TooMany,
    /// A name that is missing, too long or not printable.
    Name,
    /// No address, text that is none, or two of one family.
    Address,
    /// An address that is no pod's, see [`address::Forbidden`].
    Forbidden,
    /// Outside `exchange.pod_cidrs`.
    Outside,
    /// A port that is none.
    Port,
    /// A UID or an address that another pod of the list has.
    Duplicate,
}

impl Refusal {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::TooMany,
        Self::Name,
        Self::Address,
        Self::Forbidden,
        Self::Outside,
        Self::Port,
        Self::Duplicate,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Name => "name",
            Self::Address => "address",
            Self::Forbidden => "forbidden",
            Self::Outside => "outside",
            Self::Port => "port",
            Self::Duplicate => "duplicate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_and_labels_are_all_different() {
        for (place, result) in FetchResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, place);
            assert_eq!(FetchResult::ALL.iter().filter(|other| other.label() == result.label()).count(), 1);
        }
        for (place, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            assert_eq!(Refusal::ALL.iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}

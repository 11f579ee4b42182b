//! What agents tell each other, as decisions.

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

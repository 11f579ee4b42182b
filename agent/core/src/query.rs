//! Questions to name servers: what became of each, as the closed set of results that the metrics show.

pub mod pods;
pub mod search;

use std::net::IpAddr;

/// Which address record is asked for. The text form is a word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Record {
    /// IPv4 addresses (RFC 1035 §3.4.1).
    A,
    /// IPv6 addresses (RFC 3596 §2.1).
    Aaaa,
}

impl Record {
    /// Both records.
    pub const ALL: [Self; 2] = [Self::A, Self::Aaaa];

    /// Its name in master files.
    pub const fn label(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }

    /// Whether it can hold this address.
    pub const fn holds(self, address: IpAddr) -> bool {
        matches!((self, address), (Self::A, IpAddr::V4(_)) | (Self::Aaaa, IpAddr::V6(_)))
    }
}

/// What became of a question to a name server: the metric label `result`. Closed: consumers match it without `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueryResult {
    /// Addresses came.
    NoError,
    /// The name does not exist.
    NxDomain,
    /// The name exists and has no record of the wanted kind.
    NoData,
    /// The server failed: it says so, or it refers to other servers instead of answering, which is what a resolver
    /// in front of it would tell as SERVFAIL.
    ServFail,
    /// The server does not want to answer us.
    Refused,
    /// Any other response code.
    OtherRcode,
    /// Something came from the server that is no DNS message, or whose records make no sense.
    Malformed,
    /// Addresses came that are not the expected ones.
    Mismatch,
    /// Nothing usable came within the timeout.
    Timeout,
    /// An ICMP error came instead, or the server refused the TCP connection that it had asked for.
    Unreachable,
    /// The question never left this host.
    NotSent,
}

impl QueryResult {
    /// Every result.
    pub const ALL: [Self; 11] = [
        Self::NoError,
        Self::NxDomain,
        Self::NoData,
        Self::ServFail,
        Self::Refused,
        Self::OtherRcode,
        Self::Malformed,
        Self::Mismatch,
        Self::Timeout,
        Self::Unreachable,
        Self::NotSent,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoError => "noerror",
            Self::NxDomain => "nxdomain",
            Self::NoData => "nodata",
            Self::ServFail => "servfail",
            Self::Refused => "refused",
            Self::OtherRcode => "other_rcode",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::NotSent => "not_sent",
        }
    }

    /// What this says about the name's addresses.
    pub const fn meaning(self) -> Meaning {
        match self {
            Self::NoError => Meaning::Addresses,
            Self::NxDomain | Self::NoData => Meaning::NoAddress,
            Self::ServFail
            | Self::Refused
            | Self::OtherRcode
            | Self::Malformed
            | Self::Mismatch
            | Self::Timeout
            | Self::Unreachable
            | Self::NotSent => Meaning::Nothing,
        }
    }
}

/// What a result says about a name's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// They are the ones in the answer.
    Addresses,
    /// There are none.
    NoAddress,
    /// The server failed to say.
    Nothing,
}

/// Why a packet that came while we waited for an answer is none. The text form is a metric label value.
///
/// Such a packet is passed over, as resolvers do, and waiting goes on: anybody can send one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ignored {
    /// It came from another address or port than the one that was asked.
    OtherAddress,
    /// It has not the question's random id.
    WrongId,
    /// It repeats another question.
    WrongQuestion,
    /// It is a query, or no answer to a standard query.
    NotAnAnswer,
    /// Its header or question cannot be read.
    Garbage,
    /// It is an answer, and came after the timeout.
    Late,
}

impl Ignored {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::OtherAddress,
        Self::WrongId,
        Self::WrongQuestion,
        Self::NotAnAnswer,
        Self::Garbage,
        Self::Late,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OtherAddress => "other_address",
            Self::WrongId => "wrong_id",
            Self::WrongQuestion => "wrong_question",
            Self::NotAnAnswer => "not_an_answer",
            Self::Garbage => "garbage",
            Self::Late => "late",
        }
    }
}

/// Whether the addresses of an answer are the expected ones: all of them, in each family for which any is expected.
pub fn as_expected(addresses: &[IpAddr], expected: &[IpAddr]) -> bool {
    addresses.iter().all(|address| {
        let mut same_family = expected.iter().filter(|each| each.is_ipv4() == address.is_ipv4()).peekable();
        same_family.peek().is_none() || same_family.any(|each| each == address)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_are_unique_and_stand_in_declaration_order() {
        let results: HashSet<_> = QueryResult::ALL.iter().map(|result| result.label()).collect();
        assert_eq!(results.len(), QueryResult::ALL.len());
        assert!(QueryResult::ALL.iter().enumerate().all(|(place, result)| *result as usize == place));
        let reasons: HashSet<_> = Ignored::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(reasons.len(), Ignored::ALL.len());
        assert!(Ignored::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
    }

    #[test]
    fn only_answers_that_say_so_take_a_names_addresses_away() {
        for result in QueryResult::ALL {
            let expected = match result {
                QueryResult::NoError => Meaning::Addresses,
                QueryResult::NxDomain | QueryResult::NoData => Meaning::NoAddress,
                _ => Meaning::Nothing,
            };
            assert_eq!(result.meaning(), expected, "{}", result.label());
        }
    }

    #[test]
    fn expectations_hold_for_each_family_by_itself() {
        let cases: [(&[&str], &[&str], bool); 6] = [
            (&["10.0.0.1"], &[], true),
            (&["10.0.0.1"], &["10.0.0.1"], true),
            (&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"], false),
            (&["10.0.0.1"], &["10.0.0.1", "10.0.0.2"], true),
            (&["fd00::1"], &["10.0.0.1"], true),
            (&["fd00::1"], &["10.0.0.1", "fd00::2"], false),
        ];
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        for (addresses, expected, right) in cases {
            assert_eq!(as_expected(&parse(addresses), &parse(expected)), right, "{addresses:?} {expected:?}");
        }
    }
}

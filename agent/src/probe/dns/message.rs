//! Questions and answers as bytes (RFC 1035 §4): pure, and nothing that comes is believed before it is checked.
//!
//! An answer is read in the order of what it decides: header and question (is this an answer to us at all?), then the
//! response code, then the records that matter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record as Entry, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use podsonar_core::query::{Ignored, QueryResult, Record};

/// The longest UDP answer that we ask for: it passes every link unfragmented (DNS flag day 2020; RFC 9715 §3).
pub(super) const MAX_UDP: u16 = 1_232;

/// The longest chain of aliases that is followed. Resolvers give up between 8 and 17.
const MAX_ALIASES: usize = 16;

/// The server does not know our version of EDNS (RFC 6891 §9). The number has another meaning in TSIG, and two names.
const BADVERS: u16 = 16;

/// A question in the form in which its answer is compared with it.
#[derive(Debug, Clone)]
pub(super) struct Question {
    name: Name,
    record: Record,
}

/// A question as it was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) question: &'a Question,
    pub(super) id: u16,
    pub(super) edns: bool,
}

/// What a packet from the server means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is no answer to us.
    Ignored(Ignored),
    /// The answer is longer than a UDP packet may be: to be asked for over TCP (RFC 7766 §5).
    Truncated,
    /// The server does not know EDNS: to be asked without it (RFC 6891 §7).
    EdnsRefused,
    /// The answer: its result, and with [`QueryResult::NoError`] its addresses, sorted.
    Answer(QueryResult, Vec<IpAddr>),
}

impl Question {
    /// The question for a fully qualified name; `None` if it is no name (RFC 1035 §2.3.4: too long, an empty label).
    pub(super) fn new(name: &str, record: Record) -> Option<Self> {
        let parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) };
        parsed.ok().filter(|name| name.num_labels() > 0).map(|name| Self { name, record })
    }

    /// The message to send, recursion desired, and its random id.
    pub(super) fn encode(&self, edns: bool) -> Option<(u16, Vec<u8>)> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.record_type()));
        if edns {
            let mut options = Edns::new();
            options.set_max_payload(MAX_UDP).set_version(0);
            message.set_edns(options);
        }
        Some((message.metadata.id, message.to_vec().ok()?))
    }

    fn record_type(&self) -> RecordType {
        match self.record {
            Record::A => RecordType::A,
            Record::Aaaa => RecordType::AAAA,
        }
    }

    /// Whether this is the same question; the case of letters does not matter (RFC 4343).
    fn is(&self, other: &Query) -> bool {
        other.name() == &self.name
            && other.query_type() == self.record_type()
            && other.query_class() == DNSClass::IN
    }
}

impl Asked<'_> {
    /// What the bytes mean as an answer. Never panics and needs memory in proportion to their length.
    pub(super) fn read(&self, bytes: &[u8]) -> Reading {
        let mut decoder = BinDecoder::new(bytes);
        let Ok(header) = Header::read(&mut decoder) else { return Reading::Ignored(Ignored::Garbage) };
        let metadata = header.metadata;
        if metadata.id != self.id {
            return Reading::Ignored(Ignored::WrongId);
        }
        if metadata.message_type != MessageType::Response || metadata.op_code != OpCode::Query {
            return Reading::Ignored(Ignored::NotAnAnswer);
        }
        match self.is_about_us(&header, &mut decoder) {
            Err(_) => return Reading::Ignored(Ignored::Garbage),
            Ok(false) => return Reading::Ignored(Ignored::WrongQuestion),
            Ok(true) => {}
        }
        if metadata.truncation {
            return Reading::Truncated;
        }
        self.read_sections(&header, &mut decoder)
            .unwrap_or(Reading::Answer(QueryResult::Malformed, Vec::new()))
    }

    /// Whether the question is repeated. Old servers leave it out of their errors.
    fn is_about_us(&self, header: &Header, decoder: &mut BinDecoder<'_>) -> Result<bool, DecodeError> {
        let says_nothing =
            !matches!(header.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        match header.counts.queries {
            0 => Ok(says_nothing),
            1 => Ok(self.question.is(&Query::read(decoder)?)),
            _ => Ok(false),
        }
    }

    fn read_sections(&self, header: &Header, decoder: &mut BinDecoder<'_>) -> Result<Reading, DecodeError> {
        let mut records =
            |count: u16, is_last| Message::read_records(decoder, usize::from(count), is_last, OpCode::Query);
        let mut metadata = header.metadata;
        let (answers, _, _) = records(header.counts.answers, false)?;
        if metadata.response_code == ResponseCode::NoError && !answers.is_empty() {
            return Ok(self.read_answers(&answers));
        }
        let (authorities, _, _) = records(header.counts.authorities, false)?;
        let (_, edns, _) = records(header.counts.additionals, true)?;
        if let Some(edns) = edns {
            metadata.merge_response_code(edns.rcode_high());
        }
        let answer = |result| Reading::Answer(result, Vec::new());
        Ok(match metadata.response_code {
            ResponseCode::FormErr | ResponseCode::NotImp if self.edns => Reading::EdnsRefused,
            code if self.edns && u16::from(code) == BADVERS => Reading::EdnsRefused,
            ResponseCode::NoError if is_referral(&metadata, &authorities) => answer(QueryResult::ServFail),
            ResponseCode::NoError => answer(QueryResult::NoData),
            ResponseCode::NXDomain => answer(QueryResult::NxDomain),
            ResponseCode::ServFail => answer(QueryResult::ServFail),
            ResponseCode::Refused => answer(QueryResult::Refused),
            _ => answer(QueryResult::OtherRcode),
        })
    }

    /// Follows the aliases (RFC 1034 §3.6.2) from the name to its addresses. A loop or a chain that is too long is
    /// malformed; a chain that leads to no address of the wanted family is no data. Records about other names, of
    /// other kinds or classes are not looked at.
    fn read_answers(&self, answers: &[Entry]) -> Reading {
        let mut name = &self.question.name;
        for _ in 0..=MAX_ALIASES {
            let about = |entry: &&Entry| entry.dns_class == DNSClass::IN && entry.name == *name;
            let addresses: BTreeSet<IpAddr> = answers
                .iter()
                .filter(about)
                .filter_map(|entry| address(&entry.data))
                .filter(|address| self.question.record.holds(*address))
                .collect();
            if !addresses.is_empty() {
                return Reading::Answer(QueryResult::NoError, addresses.into_iter().collect());
            }
            let alias = answers.iter().filter(about).find_map(|entry| match &entry.data {
                RData::CNAME(alias) => Some(&alias.0),
                _ => None,
            });
            match alias {
                Some(alias) => name = alias,
                None => return Reading::Answer(QueryResult::NoData, Vec::new()),
            }
        }
        Reading::Answer(QueryResult::Malformed, Vec::new())
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// Whether an answer without records sends us elsewhere instead of saying that there are none (RFC 2308 §2.2): it does
/// not speak with authority, has no SOA, and names other servers or offers no recursion. Stub resolvers take such a
/// lame answer as a failure of the server.
fn is_referral(metadata: &Metadata, authorities: &[Entry]) -> bool {
    let has = |kind| authorities.iter().any(|entry| entry.record_type() == kind);
    !metadata.authoritative && !has(RecordType::SOA) && (has(RecordType::NS) || !metadata.recursion_available)
}

#[cfg(test)]
mod tests;

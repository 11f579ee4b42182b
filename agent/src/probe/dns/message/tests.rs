use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA};
use hickory_proto::serialize::binary::BinEncodable;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;

const ID: u16 = 0x1234;

type Change = fn(&mut Message);

#[test]
fn a_question_asks_for_recursion_and_says_how_long_an_answer_may_be() {
    let question = Question::new("www.example.", Record::Aaaa).unwrap();
    let (id, bytes) = question.encode(true).unwrap();
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.id, id);
    assert!(message.metadata.recursion_desired);
    assert_eq!(message.queries, [Query::query(Name::from_ascii("www.example.").unwrap(), RecordType::AAAA)]);
    assert_eq!(message.edns.unwrap().max_payload(), 1_232);
    let plain = Message::from_vec(&question.encode(false).unwrap().1).unwrap();
    assert!(plain.edns.is_none());
}

#[test]
fn ids_differ_from_question_to_question() {
    let question = question();
    let ids: BTreeSet<u16> = (0..64).map(|_| question.encode(true).unwrap().0).collect();
    assert!(ids.len() > 60, "{ids:?}");
}

#[test]
fn what_is_no_name_is_no_question() {
    let long_label = format!("{}.", "a".repeat(64));
    let long_name = format!("{}.", vec!["abcdefg"; 33].join("."));
    for name in ["", ".", "a..b.", "..", &long_label, &long_name] {
        assert!(Question::new(name, Record::A).is_none(), "{name}");
    }
    assert!(Question::new("bücher.example.", Record::A).is_some());
    assert!(Question::new("_dmarc.example.", Record::A).is_some());
}

#[test]
fn addresses_come_sorted_and_once_whatever_their_time_to_live_and_the_case_of_letters() {
    let mut message = answer();
    message.queries = vec![query("WwW.eXaMpLe.", RecordType::A)];
    for octet in [9, 3, 9] {
        message.add_answer(entry("wWw.ExAmPlE.", RData::A(A::new(10, 0, 0, octet))));
    }
    assert_eq!(read(&message), Reading::Answer(QueryResult::NoError, addresses(&["10.0.0.3", "10.0.0.9"])));
}

#[test]
fn what_is_no_answer_to_us_is_ignored_with_its_reason() {
    let ignored = |change: Change| {
        let mut message = answer();
        message.add_answer(entry("www.example.", RData::A(A::new(10, 0, 0, 1))));
        change(&mut message);
        read(&message)
    };
    let cases: [(Change, Ignored); 7] = [
        (|message| message.metadata.id ^= 1, Ignored::WrongId),
        (|message| message.metadata.message_type = MessageType::Query, Ignored::NotAnAnswer),
        (|message| message.metadata.op_code = OpCode::Notify, Ignored::NotAnAnswer),
        (|message| message.queries = vec![query("example.", RecordType::A)], Ignored::WrongQuestion),
        (|message| message.queries = vec![query("www.example.", RecordType::AAAA)], Ignored::WrongQuestion),
        (|message| message.queries.clear(), Ignored::WrongQuestion),
        (|message| message.queries.push(query("www.example.", RecordType::A)), Ignored::WrongQuestion),
    ];
    for (change, reason) in cases {
        assert_eq!(ignored(change), Reading::Ignored(reason));
    }
    for bytes in [&b""[..], b"x", &[0xff; 11]] {
        assert_eq!(asked(&question()).read(bytes), Reading::Ignored(Ignored::Garbage));
    }
}

#[test]
fn response_codes_have_their_results() {
    let cases = [
        (ResponseCode::NXDomain, QueryResult::NxDomain),
        (ResponseCode::ServFail, QueryResult::ServFail),
        (ResponseCode::Refused, QueryResult::Refused),
        (ResponseCode::NotAuth, QueryResult::OtherRcode),
        (ResponseCode::Unknown(12), QueryResult::OtherRcode),
    ];
    for (code, result) in cases {
        let mut message = answer();
        message.metadata.response_code = code;
        assert_eq!(read(&message), Reading::Answer(result, Vec::new()), "{code}");
    }
}

#[test]
fn a_server_that_refuses_edns_is_believed_once() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADVERS] {
        let mut message = answer();
        message.metadata.response_code = code;
        if code == ResponseCode::BADVERS {
            message.set_edns(Edns::new());
        } else {
            message.queries.clear();
        }
        let bytes = message.to_vec().unwrap();
        assert_eq!(asked(&question()).read(&bytes), Reading::EdnsRefused, "{code}");
        let plain = Asked { edns: false, ..asked(&question()) }.read(&bytes);
        assert_eq!(plain, Reading::Answer(QueryResult::OtherRcode, Vec::new()), "{code}");
    }
}

#[test]
fn a_truncated_answer_is_asked_for_again_and_its_rest_not_looked_at() {
    let mut message = answer();
    message.metadata.truncation = true;
    message.add_answer(entry("www.example.", RData::A(A::new(10, 0, 0, 1))));
    let bytes = message.to_vec().unwrap();
    for length in bytes.len() - 10..=bytes.len() {
        assert_eq!(asked(&question()).read(&bytes[..length]), Reading::Truncated);
    }
}

#[test]
fn aliases_are_followed_in_any_order_up_to_sixteen() {
    for length in [1, 2, 16, 17, 60] {
        let mut message = answer();
        for link in (0..length).rev() {
            message.add_answer(alias(link, link + 1));
        }
        message.add_answer(entry(&host(length), RData::A(A::new(10, 0, 0, 1))));
        let expected = if length <= 16 {
            Reading::Answer(QueryResult::NoError, addresses(&["10.0.0.1"]))
        } else {
            Reading::Answer(QueryResult::Malformed, Vec::new())
        };
        assert_eq!(read(&message), expected, "{length} links");
    }
}

#[test]
fn alias_loops_are_malformed() {
    for links in [&[(0, 0)][..], &[(0, 1), (1, 0)], &[(0, 1), (1, 2), (2, 1)]] {
        let mut message = answer();
        for (from, to) in links {
            message.add_answer(alias(*from, *to));
        }
        assert_eq!(read(&message), Reading::Answer(QueryResult::Malformed, Vec::new()), "{links:?}");
    }
}

#[test]
fn an_alias_without_an_address_is_no_data_and_a_dead_one_no_name() {
    let mut message = answer();
    message.add_answer(alias(0, 1));
    assert_eq!(read(&message), Reading::Answer(QueryResult::NoData, Vec::new()));
    message.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(read(&message), Reading::Answer(QueryResult::NxDomain, Vec::new()));
}

#[test]
fn other_families_other_names_and_other_classes_are_no_data() {
    let mut other_class = entry("www.example.", RData::A(A::new(10, 0, 0, 1)));
    other_class.dns_class = DNSClass::CH;
    let wrong = [
        entry("www.example.", RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))),
        entry("other.example.", RData::A(A::new(10, 0, 0, 1))),
        other_class,
    ];
    for wrong in wrong {
        let mut message = answer();
        message.add_answer(wrong.clone());
        assert_eq!(read(&message), Reading::Answer(QueryResult::NoData, Vec::new()), "{wrong:?}");
    }
}

#[test]
fn an_empty_answer_is_no_data_unless_it_sends_us_elsewhere() {
    let ns = || entry("example.", RData::NS(NS(Name::from_ascii("ns.example.").unwrap())));
    let soa = || {
        let (one, other) =
            (Name::from_ascii("ns.example.").unwrap(), Name::from_ascii("me.example.").unwrap());
        entry("example.", RData::SOA(SOA::new(one, other, 1, 2, 3, 4, 5)))
    };
    // Authority, recursion offered, records of the authority section (RFC 2308 §2.2 has these by example).
    let cases = [
        (true, false, vec![soa()], QueryResult::NoData),
        (false, true, vec![soa()], QueryResult::NoData),
        (false, true, vec![], QueryResult::NoData),
        (true, false, vec![], QueryResult::NoData),
        (false, false, vec![soa(), ns()], QueryResult::NoData),
        (false, false, vec![ns()], QueryResult::ServFail),
        (false, true, vec![ns()], QueryResult::ServFail),
        (false, false, vec![], QueryResult::ServFail),
    ];
    for (authoritative, recursion, authorities, result) in cases {
        let mut message = answer();
        message.metadata.authoritative = authoritative;
        message.metadata.recursion_available = recursion;
        message.add_authorities(authorities.clone());
        let reading = read(&message);
        assert_eq!(
            reading,
            Reading::Answer(result, Vec::new()),
            "{authoritative} {recursion} {authorities:?}"
        );
    }
}

#[test]
fn a_compression_loop_in_a_record_is_malformed_and_in_the_question_garbage() {
    let mut message = answer();
    message.add_answer(entry("www.example.", RData::A(A::new(10, 0, 0, 1))));
    let bytes = message.to_vec().unwrap();
    // The record's name is a pointer to the question's, which begins behind the header.
    let record = 12 + "www.example.".len() + 1 + 4;
    for target in [record, record + 1, 0x3fff] {
        let mut looped = bytes.clone();
        looped[record..record + 2].copy_from_slice(&(0xc000 | target as u16).to_be_bytes());
        let reading = asked(&question()).read(&looped);
        assert_eq!(reading, Reading::Answer(QueryResult::Malformed, Vec::new()), "pointer to {target}");
    }
    let mut looped = bytes;
    looped[12..14].copy_from_slice(&0xc00c_u16.to_be_bytes());
    assert_eq!(asked(&question()).read(&looped), Reading::Ignored(Ignored::Garbage));
}

#[test]
fn sixty_four_kilobytes_of_addresses_are_read() {
    let mut bytes = answer().to_vec().unwrap();
    bytes[6..8].copy_from_slice(&4_000_u16.to_be_bytes());
    for number in 0..4_000_u32 {
        // A pointer to the question's name, A, IN, no time to live, four bytes.
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(number.to_be_bytes());
    }
    assert!(bytes.len() > 64_000);
    let reading = asked(&question()).read(&bytes);
    let Reading::Answer(result, all) = reading else { panic!("{reading:?}") };
    assert_eq!((result, all.len()), (QueryResult::NoError, 4_000));
}

#[test]
fn every_truncation_has_a_reading() {
    let mut message = answer();
    message.add_answer(alias(0, 1));
    message.add_answer(entry(&host(1), RData::A(A::new(10, 0, 0, 1))));
    message.set_edns(Edns::new());
    let bytes = message.to_vec().unwrap();
    for length in 0..bytes.len() {
        let reading = asked(&question()).read(&bytes[..length]);
        let is_wrong = matches!(&reading, Reading::Answer(result, _) if !matches!(result, QueryResult::Malformed | QueryResult::NoError));
        assert!(!is_wrong, "{length}: {reading:?}");
    }
}

#[test]
fn noise_never_makes_the_reader_panic() {
    let question = question();
    let asked = asked(&question);
    let mut message = answer();
    message.add_answer(alias(0, 1));
    message.add_answer(entry(&host(1), RData::A(A::new(10, 0, 0, 1))));
    message.add_authority(entry("example.", RData::NS(NS(Name::from_ascii("ns.example.").unwrap()))));
    message.set_edns(Edns::new());
    let valid = message.to_bytes().unwrap();
    // Pure noise behind a right header and question; and a right message with some bytes changed.
    let noise = (prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 10]>());
    let changes = prop::collection::vec((0..valid.len(), any::<u8>()), 1..8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config { cases: 4_000, ..Config::default() }, rng);
    runner
        .run(&(noise, changes), |((tail, header), changes)| {
            asked.read(&tail);
            let start = [&ID.to_be_bytes()[..], &[0x84], &header[..1], &[0, 1], &header[2..8]].concat();
            asked.read(&[&start[..], &valid[12..29], &tail].concat());
            let mut changed = valid.clone();
            for (place, byte) in changes {
                changed[place] = byte;
            }
            asked.read(&changed);
            Ok(())
        })
        .unwrap();
}

/// An authoritative answer without records to [`question`].
fn answer() -> Message {
    let mut message = Message::response(ID, OpCode::Query);
    message.metadata.authoritative = true;
    message.add_query(query("www.example.", RecordType::A));
    message
}

fn question() -> Question {
    Question::new("www.example.", Record::A).unwrap()
}

fn asked(question: &Question) -> Asked<'_> {
    Asked { question, id: ID, edns: true }
}

fn read(message: &Message) -> Reading {
    asked(&question()).read(&message.to_vec().unwrap())
}

fn query(name: &str, kind: RecordType) -> Query {
    Query::query(Name::from_ascii(name).unwrap(), kind)
}

fn entry(name: &str, data: RData) -> Entry {
    Entry::from_rdata(Name::from_ascii(name).unwrap(), 0, data)
}

fn host(number: usize) -> String {
    if number == 0 { "www.example.".into() } else { format!("alias-{number}.example.") }
}

fn alias(from: usize, to: usize) -> Entry {
    entry(&host(from), RData::CNAME(CNAME(Name::from_ascii(host(to)).unwrap())))
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

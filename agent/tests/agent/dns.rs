//! Name servers that misbehave in every way, on loopback: each has its result, and nothing hangs.

pub(crate) mod server;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query as Wire, ResponseCode};
use hickory_proto::rr::rdata::{AAAA, NS};
use hickory_proto::rr::{Name, RData, Record as Entry};
use podsonar::clock;
use podsonar::probe::dns::{Answer, Prober, Query};
use podsonar_core::query::search::{Form, SearchList};
use podsonar_core::query::{Ignored, QueryResult, Record};

use server::*;
use tokio::task::JoinSet;

/// For questions that are answered: long enough that a busy machine does not matter.
const PATIENT: Duration = Duration::from_secs(30);

/// For questions that nobody answers.
const SHORT: Duration = Duration::from_millis(40);

/// For questions to which something else comes: long enough for that on a busy machine.
const LONGER: Duration = Duration::from_secs(1);

/// Makes a right answer wrong.
type Spoil = fn(&mut Message);

#[tokio::test]
async fn an_answer_has_its_addresses_and_a_duration_between_kernel_stamps() {
    let server = Server::replying(right_bytes);
    let before = clock::now();
    let answer = stamped(&Prober::new(), &server).await;
    let passed = clock::now().since(before);
    assert_eq!((answer.result, &answer.addresses[..]), (QueryResult::NoError, &[ip(1)][..]));
    let duration = answer.exchanges[0].duration.unwrap();
    assert!(duration > Duration::ZERO && duration < passed, "{duration:?}");
}

#[tokio::test]
async fn servers_are_asked_over_ipv6_and_for_ipv6_addresses_alike() {
    let there: IpAddr = "fd00::1".parse().unwrap();
    let server = Server::at(Ipv6Addr::LOCALHOST.into(), |asked| {
        let mut message = answer(&asked.message);
        let data = RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        message.add_answer(Entry::from_rdata(name("host.test."), 60, data));
        asked.send(&message.to_vec().unwrap());
    });
    let prober = Prober::new();
    loop {
        let query = Query { record: Record::Aaaa, ..query(server.address, PATIENT) };
        let answer = prober.ask(&query, &SearchList::default()).await;
        assert_eq!((answer.result, answer.addresses), (QueryResult::NoError, vec![there]));
        if answer.exchanges[0].duration.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let server = Server::udp(|_| {});
    assert_eq!(ask(&server, SHORT).await.result, QueryResult::Timeout);
}

#[tokio::test]
async fn wrong_ids_wrong_questions_and_queries_are_passed_over() {
    let wrong_id = |message: &mut Message| message.metadata.id ^= 1;
    let wrong_name = |message: &mut Message| {
        message.queries = vec![Wire::query(name("other.test."), message.queries[0].query_type())];
    };
    let wrong_type = |message: &mut Message| {
        message.queries[0].set_query_type(hickory_proto::rr::RecordType::MX);
    };
    let query = |message: &mut Message| message.metadata.message_type = MessageType::Query;
    let cases: [(Spoil, Ignored); 4] = [
        (wrong_id, Ignored::WrongId),
        (wrong_name, Ignored::WrongQuestion),
        (wrong_type, Ignored::WrongQuestion),
        (query, Ignored::NotAnAnswer),
    ];
    let mut tasks = JoinSet::new();
    for (spoil, reason) in cases {
        tasks.spawn(async move {
            let wrong = move |question: &Message| {
                let mut message = right(question);
                spoil(&mut message);
                message.to_vec().unwrap()
            };
            let only_wrong = Server::replying(wrong);
            let answer = ask(&only_wrong, LONGER).await;
            assert_eq!((answer.result, ignored(&answer, reason)), (QueryResult::Timeout, 1), "{reason:?}");
            let then_right = Server::udp(move |asked| {
                asked.send(&wrong(&asked.message));
                asked.send(&right_bytes(&asked.message));
            });
            let answer = ask(&then_right, PATIENT).await;
            assert_eq!((answer.result, ignored(&answer, reason)), (QueryResult::NoError, 1), "{reason:?}");
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn garbage_alone_is_malformed_and_among_other_packets_passed_over() {
    let garbage = Server::replying(|_| vec![0xff; 5]);
    let answer = ask(&garbage, LONGER).await;
    assert_eq!((answer.result, ignored(&answer, Ignored::Garbage)), (QueryResult::Malformed, 1));
    let then_right = Server::udp(|asked| {
        asked.send(b"garbage");
        asked.send(&right_bytes(&asked.message));
    });
    assert_eq!(ask(&then_right, PATIENT).await.result, QueryResult::NoError);
}

#[tokio::test]
async fn answers_from_another_address_are_passed_over() {
    for also_right in [false, true] {
        let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let server = Server::udp(move |asked| {
            stranger.send_to(&right_bytes(&asked.message), asked.from).unwrap();
            if also_right {
                asked.send(&right_bytes(&asked.message));
            }
        });
        let answer = ask(&server, if also_right { PATIENT } else { LONGER }).await;
        let expected = if also_right { QueryResult::NoError } else { QueryResult::Timeout };
        assert_eq!((answer.result, ignored(&answer, Ignored::OtherAddress)), (expected, 1));
    }
}

#[tokio::test]
async fn a_flood_of_packets_ends_the_exchange_without_a_result_of_the_servers() {
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let server = Server::udp(move |asked| {
        for _ in 0..2_000 {
            // The exchange may be over.
            let _ = stranger.send_to(b"flood", asked.from);
        }
    });
    let answer = ask(&server, LONGER).await;
    assert_eq!(answer.result, QueryResult::Timeout);
    assert!((1..=256).contains(&ignored(&answer, Ignored::OtherAddress)));
}

#[tokio::test]
async fn a_truncated_answer_comes_by_tcp() {
    let server = Server::replying(truncated).and_tcp(|mut stream| {
        let question = read_question(&mut stream);
        write_message(&mut stream, &right_bytes(&question)).unwrap();
    });
    let answer = ask(&server, PATIENT).await;
    assert_eq!((answer.result, answer.addresses), (QueryResult::NoError, vec![ip(1)]));
}

#[tokio::test]
async fn a_truncated_answer_without_tcp_is_unreachable() {
    let server = Server::replying(truncated);
    assert_eq!(ask(&server, PATIENT).await.result, QueryResult::Unreachable);
}

#[tokio::test]
async fn tcp_that_says_nothing_is_a_timeout_and_what_ends_too_early_malformed() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let silent = Server::replying(truncated).and_tcp(move |stream| kept.lock().unwrap().push(stream));
    assert_eq!(ask(&silent, SHORT).await.result, QueryResult::Timeout);
    let short = Server::replying(truncated).and_tcp(|mut stream| {
        let question = read_question(&mut stream);
        let mut bytes = right_bytes(&question);
        bytes.insert(0, 0);
        bytes.insert(1, 200);
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
    });
    assert_eq!(ask(&short, PATIENT).await.result, QueryResult::Malformed);
    let truncated_again = Server::replying(truncated).and_tcp(|mut stream| {
        let question = read_question(&mut stream);
        write_message(&mut stream, &truncated(&question)).unwrap();
    });
    assert_eq!(ask(&truncated_again, PATIENT).await.result, QueryResult::Malformed);
}

#[tokio::test]
async fn tcp_that_answers_something_else_for_ever_ends() {
    let server = Server::replying(truncated).and_tcp(|mut stream| {
        let mut message = right(&read_question(&mut stream));
        message.metadata.id ^= 1;
        while write_message(&mut stream, &message.to_vec().unwrap()).is_ok() {}
    });
    assert_eq!(ask(&server, PATIENT).await.result, QueryResult::Malformed);
}

#[tokio::test]
async fn compression_loops_are_malformed() {
    let server = Server::replying(|question| {
        let mut bytes = right_bytes(question);
        let record = 12 + "host.test.".len() + 1 + 4;
        let itself = 0xc000 | u16::try_from(record).unwrap();
        bytes[record..record + 2].copy_from_slice(&itself.to_be_bytes());
        bytes
    });
    assert_eq!(ask(&server, PATIENT).await.result, QueryResult::Malformed);
}

#[tokio::test]
async fn sixty_four_kilobytes_come_whole_by_tcp_and_make_udp_truncated() {
    let server = Server::replying(|question| many(question, 4_000)).and_tcp(|mut stream| {
        let question = read_question(&mut stream);
        write_message(&mut stream, &many(&question, 4_090)).unwrap();
    });
    let answer = ask(&server, PATIENT).await;
    assert_eq!((answer.result, answer.addresses.len()), (QueryResult::NoError, 4_090));
    let without_tcp = Server::replying(|question| many(question, 4_000));
    assert_eq!(ask(&without_tcp, PATIENT).await.result, QueryResult::Unreachable);
}

#[tokio::test]
async fn alias_chains_are_followed_and_loops_are_malformed() {
    for (last, expected) in [("end.test.", QueryResult::NoError), ("host.test.", QueryResult::Malformed)] {
        let server = Server::replying(move |question| {
            let mut message = answer(question);
            message.add_answer(alias(&name("host.test."), &name("middle.test.")));
            message.add_answer(alias(&name("middle.test."), &name(last)));
            message.add_answer(address(&name("end.test."), 1));
            message.to_vec().unwrap()
        });
        assert_eq!(ask(&server, PATIENT).await.result, expected);
    }
}

#[tokio::test]
async fn addresses_of_the_wrong_family_are_no_data() {
    let server = Server::replying(|question| {
        let mut message = answer(question);
        let data = RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        message.add_answer(Entry::from_rdata(name("host.test."), 60, data));
        message.to_vec().unwrap()
    });
    let answer = ask(&server, PATIENT).await;
    assert_eq!((answer.result, answer.addresses), (QueryResult::NoData, vec![]));
}

#[tokio::test]
async fn an_answer_that_comes_after_the_timeout_stays_a_timeout() {
    let (asked, questions) = channel();
    let (go, told) = channel();
    let mut is_first = true;
    let server = Server::udp(move |question| {
        if std::mem::take(&mut is_first) {
            asked.send(()).unwrap();
            told.recv().unwrap();
        }
        question.send(&right_bytes(&question.message));
    });
    assert_eq!(ask(&server, SHORT).await.result, QueryResult::Timeout);
    questions.recv().unwrap();
    go.send(()).unwrap();
    assert_eq!(ask(&server, PATIENT).await.result, QueryResult::NoError, "the next question is another one");
}

#[tokio::test]
async fn in_time_or_late_is_when_the_answer_came_not_when_we_looked() {
    let prober = Prober::new();
    stamped(&prober, &Server::replying(right_bytes)).await;
    let (limit, too_long) = (Duration::from_millis(400), Duration::from_millis(450));
    let cases = [
        (Duration::ZERO, too_long, QueryResult::NoError, 0),
        (too_long, Duration::ZERO, QueryResult::Timeout, 1),
    ];
    for (before_answering, before_looking, result, late) in cases {
        let (sent, answered) = channel();
        let server = Server::udp(move |asked| {
            spin(before_answering);
            asked.send(&right_bytes(&asked.message));
            sent.send(()).unwrap();
        });
        let query = query(server.address, limit);
        // Polled after the question was sent, and keeps the only thread until the answer is there and time is up.
        let starving = async {
            answered.recv().unwrap();
            spin(before_looking);
        };
        let search = SearchList::default();
        let (answer, ()) = tokio::join!(biased; prober.ask(&query, &search), starving);
        assert_eq!((answer.result, ignored(&answer, Ignored::Late)), (result, late));
        let duration = answer.exchanges[0].duration;
        assert!(duration.is_none_or(|duration| duration <= limit), "{duration:?}");
        assert_eq!(duration.is_some(), result == QueryResult::NoError);
    }
}

#[tokio::test]
async fn a_lame_delegation_is_a_failure_of_the_server() {
    let server = Server::replying(|question| {
        let mut message = answer(question);
        message.metadata.authoritative = false;
        message.add_authority(Entry::from_rdata(name("test."), 60, RData::NS(NS(name("ns.elsewhere.")))));
        message.to_vec().unwrap()
    });
    assert_eq!(ask(&server, PATIENT).await.result, QueryResult::ServFail);
}

#[tokio::test]
async fn a_time_to_live_of_zero_is_as_good_as_any() {
    let server = Server::replying(|question| {
        let message = right(question);
        assert_eq!(message.answers[0].ttl, 0);
        message.to_vec().unwrap()
    });
    assert_eq!(ask(&server, PATIENT).await.addresses, [ip(1)]);
}

#[tokio::test]
async fn the_case_of_letters_does_not_matter() {
    let server = Server::replying(|question| {
        let mut message = answer(question);
        message.queries[0].set_name(name("HoSt.TeSt."));
        message.add_answer(address(&name("hOsT.tEsT."), 1));
        message.to_vec().unwrap()
    });
    assert_eq!(ask(&server, PATIENT).await.addresses, [ip(1)]);
}

#[tokio::test]
async fn a_server_that_refuses_edns_is_asked_without() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADVERS] {
        let server = Server::replying(move |question| {
            if question.edns.is_none() {
                return right_bytes(question);
            }
            let mut message = answer(question);
            message.metadata.response_code = code;
            if code != ResponseCode::BADVERS {
                (message.edns, message.queries) = (None, Vec::new());
            }
            message.to_vec().unwrap()
        });
        let answer = ask(&server, PATIENT).await;
        assert_eq!((answer.result, answer.exchanges.len()), (QueryResult::NoError, 1), "{code}");
        let stubborn = Server::replying(move |question| {
            let mut message = self::answer(question);
            message.metadata.response_code = ResponseCode::FormErr;
            message.to_vec().unwrap()
        });
        assert_eq!(ask(&stubborn, PATIENT).await.result, QueryResult::OtherRcode);
    }
}

#[tokio::test]
async fn response_codes_are_results() {
    let cases = [
        (ResponseCode::NXDomain, QueryResult::NxDomain),
        (ResponseCode::NoError, QueryResult::NoData),
        (ResponseCode::ServFail, QueryResult::ServFail),
        (ResponseCode::Refused, QueryResult::Refused),
        (ResponseCode::YXDomain, QueryResult::OtherRcode),
    ];
    for (code, expected) in cases {
        let server = Server::replying(move |question| {
            let mut message = answer(question);
            message.metadata.response_code = code;
            message.to_vec().unwrap()
        });
        assert_eq!(ask(&server, PATIENT).await.result, expected);
    }
}

#[tokio::test]
async fn a_port_where_nobody_serves_is_unreachable() {
    let unused = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let answer = Prober::new().ask(&query(unused, PATIENT), &SearchList::default()).await;
    assert_eq!(answer.result, QueryResult::Unreachable);
}

#[tokio::test]
async fn an_unexpected_address_is_a_mismatch() {
    let server = Server::replying(right_bytes);
    for (expected, result) in [(ip(1), QueryResult::NoError), (ip(2), QueryResult::Mismatch)] {
        let query = Query { expect: [expected].into(), ..query(server.address, PATIENT) };
        let answer = Prober::new().ask(&query, &SearchList::default()).await;
        assert_eq!((answer.result, answer.addresses), (result, vec![ip(1)]));
    }
}

#[tokio::test]
async fn the_search_list_is_asked_in_order_until_a_name_exists() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = Server::replying(move |question| {
        let wanted = question.queries[0].name().to_string();
        let mut message = right(question);
        if wanted != "web.b.test." {
            message.answers.clear();
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        seen.lock().unwrap().push(wanted);
        message.to_vec().unwrap()
    });
    let query = Query { name: "web".into(), ..query(server.address, PATIENT) };
    let answer = Prober::new().ask(&query, &SearchList::new(["a.test", "b.test", "c.test"], 1)).await;
    assert_eq!((answer.result, answer.addresses), (QueryResult::NoError, vec![ip(1)]));
    let results: Vec<_> = answer.exchanges.iter().map(|each| (each.form, each.result)).collect();
    assert_eq!(results, [(Form::Searched, QueryResult::NxDomain), (Form::Searched, QueryResult::NoError)]);
    assert_eq!(*asked.lock().unwrap(), ["web.a.test.", "web.b.test."]);
}

#[tokio::test]
async fn a_servers_failure_stays_visible_behind_names_that_do_not_exist() {
    let server = Server::replying(|question| {
        let mut message = answer(question);
        let failing = question.queries[0].name() == &name("web.a.test.");
        message.metadata.response_code =
            if failing { ResponseCode::ServFail } else { ResponseCode::NXDomain };
        message.to_vec().unwrap()
    });
    let query = Query { name: "web".into(), ..query(server.address, PATIENT) };
    let answer = Prober::new().ask(&query, &SearchList::new(["a.test"], 1)).await;
    assert_eq!((answer.result, answer.exchanges.len()), (QueryResult::ServFail, 2));
    assert_eq!(answer.exchanges[1].form, Form::AsWritten);
}

#[tokio::test]
async fn a_silent_server_is_waited_for_once_and_delays_no_other() {
    let (dead, live) = (Server::udp(|_| {}), Server::replying(right_bytes));
    let prober = Arc::new(Prober::new());
    let search = SearchList::new(["a.test", "b.test"], 1);
    let waiting = {
        let (prober, search, query) = (Arc::clone(&prober), search.clone(), query(dead.address, PATIENT));
        tokio::spawn(async move { prober.ask(&query, &search).await })
    };
    for _ in 0..20 {
        assert_eq!(prober.ask(&query(live.address, PATIENT), &search).await.result, QueryResult::NoError);
    }
    assert!(!waiting.is_finished());
    waiting.abort();
    let answer = prober.ask(&query(dead.address, SHORT), &search).await;
    assert_eq!((answer.result, answer.exchanges.len()), (QueryResult::Timeout, 1));
}

#[tokio::test]
async fn what_cannot_be_a_name_is_not_sent() {
    let server = Server::udp(|_| panic!("nothing is asked"));
    let query = Query { name: "a..b".into(), ..query(server.address, PATIENT) };
    let answer = Prober::new().ask(&query, &SearchList::default()).await;
    assert_eq!((answer.result, answer.exchanges.len()), (QueryResult::NotSent, 0));
}

/// Asks until the kernel stamps both ways, which it begins a moment after it was asked to.
async fn stamped(prober: &Prober, server: &Server) -> Answer {
    loop {
        let answer = prober.ask(&query(server.address, PATIENT), &SearchList::default()).await;
        if answer.exchanges[0].duration.is_some() {
            return answer;
        }
    }
}

async fn ask(server: &Server, timeout: Duration) -> Answer {
    Prober::new().ask(&query(server.address, timeout), &SearchList::default()).await
}

fn query(server: SocketAddr, timeout: Duration) -> Query {
    Query { name: "host.test".into(), server, record: Record::A, expect: [].into(), timeout }
}

fn truncated(question: &Message) -> Vec<u8> {
    let mut message = answer(question);
    message.metadata.truncation = true;
    message.to_vec().unwrap()
}

fn ignored(answer: &Answer, reason: Ignored) -> u32 {
    answer.exchanges.iter().map(|exchange| exchange.ignored[reason as usize]).sum()
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// Lets time pass while the thread is busy.
fn spin(duration: Duration) {
    let start = clock::now();
    while clock::now().since(start) < duration {
        std::hint::spin_loop();
    }
}

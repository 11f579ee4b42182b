//! What a scrape shows of name servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use podsonar::metrics::accept::Format;
use podsonar::metrics::dns::DnsMetrics;
use podsonar::metrics::scrape::Scrape;
use podsonar::probe::dns::{Answer, Exchange};
use podsonar_core::config::Buckets;
use podsonar_core::engine::Question;
use podsonar_core::query::search::Form;
use podsonar_core::query::{Ignored, QueryResult, Record};

use crate::support::{Book, RETAIN, clock};

const SERVER: &str = "10.96.0.10:53";
const OTHER: &str = "[fd00::53]:5353";

#[test]
fn noerror_and_timeout_start_at_zero_for_each_name_and_server() {
    let book = Book::new();
    let mut dns = dns(&book);
    dns.configure(pairs(&[(SERVER, "web"), (OTHER, "web"), (SERVER, "db")]), clock(0).mono);
    assert_eq!(book.lines(&["dns_queries_total"]).len(), 6);
    assert_eq!(book.value(&["dns_queries_total", "fd00::53]:5353", "web", "timeout"]), "0");
    assert_eq!(book.value(&["dns_queries_total", "\"10.96.0.10\"", "db", "noerror"]), "0");
    assert_eq!(book.lines(&["dns_duration_seconds_count"]).len(), 2);
}

#[test]
fn a_query_counts_once_and_each_of_its_exchanges_by_its_form() {
    let book = Book::new();
    let mut dns = dns(&book);
    dns.configure(pairs(&[(SERVER, "web")]), clock(0).mono);
    let searched = exchange(Form::Searched, QueryResult::NxDomain, Some(Duration::from_micros(600)));
    let as_written = exchange(Form::AsWritten, QueryResult::NoError, None);
    book_answer(&dns, "web", &answer(QueryResult::NoError, vec![searched, as_written]));
    assert_eq!(book.value(&["dns_queries_total", "noerror"]), "1");
    assert!(book.lines(&["dns_queries_total", "nxdomain"]).is_empty());
    assert_eq!(book.value(&["dns_exchanges_total", "searched", "nxdomain"]), "1");
    assert_eq!(book.value(&["dns_exchanges_total", "as_written", "noerror"]), "1");
    assert_eq!(book.value(&["dns_duration_seconds_count"]), "1", "without stamps nothing is observed");
    assert_eq!(book.value(&["dns_duration_seconds_bucket", "le=\"0.0005\""]), "0");
    assert_eq!(book.value(&["dns_duration_seconds_bucket", "le=\"0.001\""]), "1");
    assert_eq!(book.lines(&["dns_duration_seconds_bucket"]).len(), Buckets::default().dns.len() + 1);
}

#[test]
fn passed_over_packets_count_by_reason() {
    let book = Book::new();
    let mut dns = dns(&book);
    dns.configure(pairs(&[(SERVER, "web")]), clock(0).mono);
    let mut silent = exchange(Form::AsWritten, QueryResult::Timeout, None);
    silent.ignored[Ignored::WrongId as usize] = 3;
    book_answer(&dns, "web", &answer(QueryResult::Timeout, vec![silent]));
    assert_eq!(book.value(&["dns_ignored_packets_total"]), "3");
    assert_eq!(book.value(&["dns_ignored_packets_total", "wrong_id"]), "3");
}

#[test]
fn series_of_a_name_that_left_stay_for_the_retain_period_and_go_on_if_it_returns() {
    let book = Book::new();
    let mut dns = dns(&book);
    let noerror = answer(QueryResult::NoError, vec![exchange(Form::AsWritten, QueryResult::NoError, None)]);
    dns.configure(pairs(&[(SERVER, "web"), (SERVER, "db")]), clock(0).mono);
    book_answer(&dns, "web", &noerror);
    dns.configure(pairs(&[(SERVER, "db")]), clock(100).mono);
    book_answer(&dns, "web", &noerror);
    dns.expire(clock(100 + RETAIN.as_secs() - 1).mono);
    assert_eq!(book.value(&["dns_queries_total", "web", "noerror"]), "2");
    dns.configure(pairs(&[(SERVER, "web"), (SERVER, "db")]), clock(2_000).mono);
    dns.expire(clock(9_000).mono);
    assert_eq!(book.value(&["dns_queries_total", "web", "noerror"]), "2");
    dns.configure(pairs(&[(OTHER, "db")]), clock(10_000).mono);
    dns.expire(clock(10_000 + RETAIN.as_secs()).mono);
    assert!(book.lines(&["10.96.0.10"]).is_empty());
    assert_eq!(book.lines(&["dns_queries_total"]).len(), 2);
    book_answer(&dns, "web", &noerror);
    assert!(book.lines(&["web"]).is_empty(), "what is gone stays gone");
}

#[test]
fn servers_that_come_and_go_quickly_do_not_pile_up() {
    let book = Book::new();
    let mut dns = dns(&book);
    let server = |number: u64| format!("10.244.0.{number}:53");
    for number in 1..=100 {
        let (kept, passing) = (server(200), server(number));
        dns.configure(pairs(&[(&kept, "pod"), (&passing, "pod")]), clock(number).mono);
    }
    let servers = book.lines(&["dns_queries_total", "noerror"]);
    assert_eq!(servers.len(), 2 + 16);
    assert!(servers[0].contains("10.244.0.84\"") && servers[17].contains("10.244.0.200\""), "{servers:?}");
}

#[test]
fn many_names_come_in_pieces_of_bounded_size() {
    let book = Book::new();
    let mut dns = dns(&book);
    let names: Vec<_> =
        (0..2_000).map(|number| format!("name-{number}.namespace.svc.cluster.local")).collect();
    let pairs = names.iter().map(|name| (SERVER.parse().unwrap(), Arc::from(name.as_str())));
    dns.configure(pairs, clock(0).mono);
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let scrape = Scrape::new(book.metrics.clone(), format);
        assert!(scrape.map(|piece| piece.len()).all(|length| length < 128 * 1024), "{format:?}");
    }
    assert_eq!(book.lines(&["dns_queries_total"]).len(), 4_000);
}

/// Lets a book have seen name servers, for the golden scrape.
pub(crate) fn feed(book: &Book) {
    let mut dns = dns(book);
    dns.configure(
        pairs(&[(SERVER, "web.test"), (OTHER, "web.test"), (SERVER, "pod"), (SERVER, "bare_pod")]),
        clock(0).mono,
    );
    let pod = exchange(Form::AsWritten, QueryResult::Mismatch, Some(Duration::from_micros(380)));
    book_answer(&dns, "pod", &answer(QueryResult::Mismatch, vec![pod]));
    let bare = exchange(Form::Searched, QueryResult::NxDomain, Some(Duration::from_micros(390)));
    book_answer(&dns, "bare_pod", &answer(QueryResult::NxDomain, vec![bare]));
    let mut searched = exchange(Form::Searched, QueryResult::ServFail, Some(Duration::from_micros(420)));
    searched.ignored[Ignored::OtherAddress as usize] = 2;
    let as_written = exchange(Form::AsWritten, QueryResult::NxDomain, Some(Duration::from_millis(7)));
    book_answer(&dns, "web.test", &answer(QueryResult::ServFail, vec![searched, as_written]));
}

/// Books an answer as the agent does: its result, and what its server did.
fn book_answer(dns: &DnsMetrics, name: &str, answer: &Answer) {
    let question = Question { name: name.into(), server: SERVER.parse().unwrap(), record: Record::A };
    dns.result(&question, answer.result);
    dns.answer(&question, answer);
}

fn dns(book: &Book) -> DnsMetrics {
    DnsMetrics::new(Arc::clone(&book.metrics), RETAIN)
}

fn pairs<'a>(pairs: &'a [(&str, &str)]) -> impl Iterator<Item = (SocketAddr, Arc<str>)> + 'a {
    pairs.iter().map(|(server, name)| (server.parse().unwrap(), Arc::from(*name)))
}

fn answer(result: QueryResult, exchanges: Vec<Exchange>) -> Answer {
    Answer { result, addresses: Vec::new(), exchanges }
}

fn exchange(form: Form, result: QueryResult, duration: Option<Duration>) -> Exchange {
    Exchange { form, result, duration, ignored: Default::default() }
}

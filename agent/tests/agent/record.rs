//! `--record`: the lines of the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Book, EPOCH, clock, outcome, planned};
use podsonar::record::{self, Purpose};
use podsonar_core::outcome::{Outcome, ProbeResult, Rtt, SendError, Sent, StampSource, Void};
use podsonar_core::target::Protocol;
use podsonar_core::time::WallTime;

#[test]
fn a_line_has_every_field() {
    let rtt = Rtt::Observed(Duration::from_nanos(512_345));
    assert_eq!(
        lines("fields", "192.0.2.1", Protocol::Icmp, &[outcome(1, ProbeResult::Reply(rtt))]),
        [
            "{\"purpose\":\"due\",\"kind\":\"fixed\",\"target\":\"192.0.2.1\",\"address\":\"192.0.2.1\",\"port\":null,\"protocol\":\"icmp\",\
           \"due_ns\":1700000000005000000,\"sent_ns\":1700000000005000123,\"rtt_ns\":512345,\"result\":\"reply\",\
           \"reason\":null,\"stamp\":{\"tx\":\"software\",\"rx\":\"software\"},\"icmp_id\":4660,\"sequence\":7,\
           \"cookie\":\"00000000deadbeef\",\"source_port\":null}"
        ]
    );
}

#[test]
fn a_syn_has_its_ports_and_no_icmp_id() {
    let reset = outcome(1, ProbeResult::Reset(Rtt::Estimated(Duration::from_micros(1))));
    let sent = Sent {
        at: WallTime::from_nanos(EPOCH),
        rx: Some(StampSource::User),
        sequence: u32::MAX,
        source_port: Some(40_001),
        destination_port: None,
        ..reset.sent.unwrap()
    };
    let line = &lines("syn", "[2001:db8::1]:80", Protocol::Tcp, &[Outcome { sent: Some(sent), ..reset }])[0];
    for part in [
        "\"target\":\"[2001:db8::1]:80\",\"address\":\"2001:db8::1\",\"port\":80,",
        "\"rtt_ns\":1000,\"result\":\"reset\"",
        "\"stamp\":{\"tx\":\"software\",\"rx\":\"user\"},\"icmp_id\":null,\"sequence\":4294967295,",
        "\"source_port\":40001}",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_was_never_sent_has_a_reason_and_no_identity() {
    let refused = outcome(1, ProbeResult::Void(Void::NotSent(SendError::Firewall)));
    let line = &lines("refused", "192.0.2.1", Protocol::Icmp, &[refused])[0];
    for part in [
        "\"sent_ns\":null,\"rtt_ns\":null,\"result\":\"not_sent\",\"reason\":\"firewall\"",
        "\"stamp\":{\"tx\":null,\"rx\":null}",
        "\"sequence\":null,\"cookie\":null",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn each_skipped_probe_has_a_line_with_its_own_due_time() {
    let skipped = Outcome { count: 3, ..outcome(1, ProbeResult::Void(Void::Skipped)) };
    let lines = lines("skipped", "192.0.2.1", Protocol::Icmp, &[skipped]);
    assert_eq!(lines.len(), 3);
    for (line, due) in lines.iter().zip([5_000_000, 1_005_000_000, 2_005_000_000]) {
        assert!(line.contains(&format!("\"due_ns\":{},", EPOCH + due)), "{line}");
    }
}

#[test]
fn an_existing_file_is_appended_to() {
    let file = scratch("append");
    fs::write(&file, "before\n").unwrap();
    write(&file, "192.0.2.1", Protocol::Icmp, &[outcome(1, ProbeResult::Lost)]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("before\n{") && text.lines().count() == 2, "{text}");
    fs::remove_file(file).unwrap();
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let book = Book::new();
    let full = record::open("/dev/full".as_ref()).unwrap();
    let (recorder, writer) = record::start(full, 1, Arc::clone(&book.metrics)).unwrap();
    let stream = planned("192.0.2.1", Protocol::Icmp).stream;
    for _ in 0..1_000 {
        recorder.record(
            Purpose::Due,
            &stream,
            Duration::from_secs(1),
            &outcome(1, ProbeResult::Lost),
            &clock(0),
        );
    }
    drop(recorder);
    assert!(writer.finish().is_err());
    assert_ne!(book.value(&["record_lines_dropped_total"]), "0");
}

/// The lines that a new file then has.
fn lines(name: &str, target: &str, protocol: Protocol, outcomes: &[Outcome]) -> Vec<String> {
    let file = scratch(name);
    write(&file, target, protocol, outcomes);
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    text.lines().map(Into::into).collect()
}

fn write(file: &Path, target: &str, protocol: Protocol, outcomes: &[Outcome]) {
    let book = Book::new();
    let (recorder, writer) = record::start(record::open(file).unwrap(), 0x1234, book.metrics).unwrap();
    let planned = planned(target, protocol);
    for outcome in outcomes {
        recorder.record(Purpose::Due, &planned.stream, planned.interval, outcome, &clock(0));
    }
    drop(recorder);
    writer.finish().unwrap();
}

fn scratch(name: &str) -> PathBuf {
    let file =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("record-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&file);
    file
}

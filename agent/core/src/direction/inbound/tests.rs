use proptest::prelude::*;

use super::*;
use crate::wire::payload::LEN;

#[test]
fn a_known_agents_requests_are_counted_by_family() {
    let mut inbound = inbound(&[source("b", 9)]);
    for sequence in 1..=3 {
        assert!(send(&mut inbound, sequence * 1_000, "10.0.0.2", 9, sequence).is_some());
    }
    assert!(send(&mut inbound, 3_000, "fd00::2", 9, 1).is_some());
    let counts = tally(&mut inbound);
    assert_eq!(counts[&("b".into(), Family::V4)], Counts { probes: 3, ..Counts::default() });
    assert_eq!(counts[&("b".into(), Family::V6)], Counts { probes: 1, ..Counts::default() });
    assert_eq!(inbound.refused(), [0; 7]);
}

#[test]
fn forged_requests_are_refused_by_epoch_and_by_address() {
    let mut inbound = inbound(&[
        source("b", 9),
        Source { addresses: vec![ip("10.0.0.3")], also_from: vec![], ..source("c", 8) },
    ]);
    for (from, epoch, refusal) in [
        ("10.0.0.2", 7, Refusal::UnknownEpoch),
        ("10.0.0.2", 8, Refusal::WrongAddress),
        ("10.0.0.3", 9, Refusal::WrongAddress),
        ("203.0.113.1", 9, Refusal::WrongAddress),
    ] {
        let before = inbound.refused()[refusal as usize];
        assert_eq!(send(&mut inbound, 0, from, epoch, 1), None);
        assert_eq!(inbound.refused()[refusal as usize], before + 1, "{from} {epoch}");
    }
    assert_eq!(send(&mut inbound, 0, "10.0.0.2", 9, 0), None);
    assert_eq!(inbound.refused()[Refusal::Implausible as usize], 1);
    assert!(tally(&mut inbound).values().all(|counts| *counts == Counts::default()));
}

#[test]
fn a_request_whose_senders_address_was_rewritten_to_its_nodes_counts() {
    let mut inbound = inbound(&[source("b", 9)]);
    assert!(send(&mut inbound, 1_000, "192.0.2.2", 9, 1).is_some());
    assert!(send(&mut inbound, 2_000, "10.0.0.2", 9, 2).is_some());
    assert_eq!(tally(&mut inbound)[&("b".into(), Family::V4)].probes, 2);
    assert_eq!(inbound.heard(ip("192.0.2.2"), SizeClass::Normal, at(2_000)), Heard::default());
}

#[test]
fn our_own_requests_and_those_to_nobody_in_particular_are_passed_over() {
    let mut inbound = inbound(&[source("b", 9)]);
    assert_eq!(send(&mut inbound, 0, "127.0.0.1", OWN, 1), None);
    assert_eq!(send(&mut inbound, 0, "10.0.0.2", 0, 1), None);
    assert_eq!(inbound.refused(), [0; 7]);
}

#[test]
fn one_agent_that_copies_anothers_epoch_takes_nothing_from_it() {
    let thief = Source {
        addresses: vec![ip("10.0.0.66")],
        also_from: vec![ip("10.0.0.2"), ip("192.0.2.2")],
        ..source("a", 9)
    };
    let mut inbound = inbound(&[thief, source("b", 9)]);
    assert!(send(&mut inbound, 0, "10.0.0.2", 9, 1).is_some());
    assert_eq!(inbound.heard(ip("10.0.0.2"), SizeClass::Normal, at(0)).highest, 1);
    assert!(send(&mut inbound, 0, "10.0.0.66", 9, 500).is_some());
    let counts = tally(&mut inbound);
    assert_eq!(counts[&("b".into(), Family::V4)].probes, 1);
    assert_eq!(counts[&("a".into(), Family::V4)].probes, 1);
}

#[test]
fn a_sender_is_silent_after_five_of_its_periods_and_no_gap_is_counted() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    send(&mut inbound, 2_000, "10.0.0.2", 9, 2);
    look(&mut inbound, 7_500);
    assert_eq!(silent(&mut inbound), []);
    look(&mut inbound, 7_600);
    assert_eq!(silent(&mut inbound), [("b".into(), Family::V4)]);
    look(&mut inbound, 60_000);
    // Healed: an outage, no loss, and it is heard at once.
    send(&mut inbound, 62_000, "10.0.0.2", 9, 62);
    look(&mut inbound, 70_000);
    let news = inbound.take_news();
    let healed = news.iter().find(|news| news.edge.family == Family::V4).unwrap();
    assert_eq!(healed.counts, Counts { probes: 1, outages: 1, ..Counts::default() });
}

#[test]
fn whoever_was_never_heard_is_not_called_silent() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    look(&mut inbound, 600_000);
    assert_eq!(silent(&mut inbound), [("b".into(), Family::V4)]);
}

#[test]
fn silence_is_not_told_while_our_socket_is_not_empty_or_drops_or_we_are_sick() {
    for case in ["waiting", "dropped", "sick"] {
        let mut inbound = inbound(&[source("b", 9)]);
        send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
        inbound.handle_drain(at(8_000), Family::V4, case != "waiting", u64::from(case == "dropped"));
        inbound.look(at(8_000), case != "sick", |_, _| true);
        assert_eq!(silent(&mut inbound), [], "{case}");
        look(&mut inbound, 16_000);
        if case != "dropped" {
            assert_eq!(silent(&mut inbound).len(), 1, "{case}");
        }
    }
}

#[test]
fn requests_that_waited_while_we_were_stopped_leave_nobody_silent() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    for sequence in 2..=30 {
        let request = request(9, sequence, SizeClass::Normal);
        inbound.handle_request((at(sequence * 1_000), at(30_500)), ip("10.0.0.2"), &request);
    }
    look(&mut inbound, 30_500);
    let news = inbound.take_news();
    let told = news.iter().find(|news| news.edge.family == Family::V4).unwrap();
    assert_eq!((told.silent, told.counts), (false, Counts { probes: 30, ..Counts::default() }));
}

#[test]
fn a_restarted_sender_begins_anew_and_its_former_gaps_are_unknown() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    send(&mut inbound, 2_500, "10.0.0.2", 9, 3);
    inbound.set_sources(&[source("b", 10)]);
    assert!(send(&mut inbound, 9_000, "10.0.0.2", 10, 5).is_some());
    assert_eq!(send(&mut inbound, 9_000, "10.0.0.2", 9, 4), None);
    look(&mut inbound, 20_000);
    let counts = tally(&mut inbound)[&("b".into(), Family::V4)];
    assert_eq!(counts, Counts { probes: 3, unknown: 1, ..Counts::default() });
}

#[test]
fn a_sender_that_leaves_is_told_once_and_heard_no_more() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    inbound.take_news();
    inbound.set_sources(&[]);
    let gone: Vec<(Family, bool)> =
        inbound.take_news().into_iter().map(|news| (news.edge.family, news.gone)).collect();
    assert_eq!(gone, [(Family::V4, true), (Family::V6, true)]);
    assert_eq!(send(&mut inbound, 2_000, "10.0.0.2", 9, 2), None);
    assert_eq!(inbound.take_news(), []);
}

#[test]
fn another_zone_is_another_edge() {
    let mut inbound = inbound(&[source("b", 9)]);
    inbound.take_news();
    inbound.set_sources(&[Source { zone: "other".into(), ..source("b", 9) }]);
    let news = inbound.take_news();
    let of = |zone: &str| -> Vec<bool> {
        news.iter().filter(|news| &*news.edge.zone == zone).map(|news| news.gone).collect()
    };
    assert_eq!((of("zone"), of("other")), (vec![true; 2], vec![false; 2]));
}

#[test]
fn a_family_that_is_not_listened_to_has_no_edge() {
    let mut inbound = Inbound::new(OWN);
    inbound.listen(Family::V6);
    inbound.set_sources(&[source("b", 9)]);
    let families: Vec<Family> = inbound.take_news().iter().map(|news| news.edge.family).collect();
    assert_eq!(families, [Family::V6]);
}

#[test]
fn large_requests_have_their_own_sequence_and_are_no_loss_of_the_way() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 1);
    for (millis, sequence) in [(1_000, 1), (11_000, 4)] {
        let large = request(9, sequence, SizeClass::Large);
        inbound.handle_request((at(millis), at(millis)), ip("10.0.0.2"), &large);
    }
    look(&mut inbound, 20_000);
    assert_eq!(tally(&mut inbound)[&("b".into(), Family::V4)], Counts { probes: 1, ..Counts::default() });
    let heard = |class| inbound.heard(ip("10.0.0.2"), class, at(20_000));
    assert_eq!(heard(SizeClass::Normal), Heard { highest: 1, count: 1 });
    assert_eq!(heard(SizeClass::Large), Heard { highest: 4, count: 2 });
    assert_eq!(inbound.heard(ip("10.0.0.9"), SizeClass::Normal, at(20_000)), Heard::default());
}

#[test]
fn nothing_is_reported_while_two_of_our_addresses_are_probed() {
    let mut inbound = inbound(&[source("b", 9)]);
    send(&mut inbound, 1_000, "10.0.0.2", 9, 40);
    let other = Request { to: ip("10.0.9.9"), ..request(9, 7, SizeClass::Normal) };
    inbound.handle_request((at(2_000), at(2_000)), ip("10.0.0.2"), &other);
    let heard = |millis| inbound.heard(ip("10.0.0.2"), SizeClass::Normal, at(millis));
    assert_eq!(heard(2_000), Heard::default());
    assert_eq!(heard(61_500), Heard { highest: 7, count: 1 });
}

#[test]
fn addresses_that_a_known_sender_makes_up_take_no_memory() {
    let mut inbound = inbound(&[source("b", 9)]);
    for last in 0..=255 {
        let made_up = Request { to: IpAddr::from([10, 1, 1, last]), ..request(9, 1, SizeClass::Normal) };
        inbound.handle_request((at(1_000), at(1_000)), ip("10.0.0.2"), &made_up);
    }
    assert_eq!(inbound.senders["b"].sides[0].as_ref().unwrap().windows.len(), MOST_WINDOWS);
    assert_eq!(inbound.refused()[Refusal::Implausible as usize], 256 - MOST_WINDOWS as u64);
}

proptest! {
    /// Random loss, duplicates and reordering on the way here: what arrives is counted once, what does not is lost, and
    /// what the sender is told says the same.
    #[test]
    fn every_probe_is_counted_once_and_every_loss_is_told(
        packets in prop::collection::vec((0..10_u8, 0..1_900_u64, any::<bool>()), 1..300),
    ) {
        let mut inbound = inbound(&[source("b", 9)]);
        let (mut arrivals, mut lost, mut run) = (Vec::new(), 0, 0);
        let last = packets.len() as u64 + 1;
        for (sequence, (fate, delay, twice)) in (1..).zip(packets.iter().copied()) {
            // The first must arrive, and a run of losses that is as long as an outage is none of this test's.
            run = if fate < 3 && sequence > 1 && run < 6 { run + 1 } else { 0 };
            if run > 0 {
                lost += 1;
                continue;
            }
            let delay = if sequence == 1 { 0 } else { delay };
            arrivals.push((sequence * 1_000 + delay, sequence));
            if twice {
                arrivals.push((sequence * 1_000 + delay + 700, sequence));
            }
        }
        arrivals.push((last * 1_000, last));
        arrivals.sort_unstable();
        for (millis, sequence) in arrivals {
            send(&mut inbound, millis, "10.0.0.2", 9, sequence);
            look(&mut inbound, millis);
        }
        look(&mut inbound, (last + 5) * 1_000);
        let counts = tally(&mut inbound)[&("b".into(), Family::V4)];
        prop_assert_eq!(counts, Counts { probes: last - lost, lost, ..Counts::default() });
        let heard = inbound.heard(ip("10.0.0.2"), SizeClass::Normal, at((last + 5) * 1_000));
        prop_assert_eq!(heard, Heard { highest: last, count: last - lost });
    }

    /// Neither end's restart is a loss: not the receiver's, which begins with what it hears first, nor the sender's.
    #[test]
    fn restarts_on_either_side_make_no_loss(
        steps in prop::collection::vec(0..20_u8, 1..200),
    ) {
        let mut inbound = inbound(&[source("b", 9)]);
        let (mut epoch, mut sequence, mut probes) = (9, 0, 0);
        for (second, step) in (1..).zip(steps) {
            match step {
                0 => {
                    (epoch, sequence) = (epoch + 1, 0);
                    inbound.set_sources(&[source("b", epoch)]);
                }
                1 => {
                    probes += tally(&mut inbound).get(&("b".into(), Family::V4)).map_or(0, |counts| counts.probes);
                    inbound = super::tests::inbound(&[source("b", epoch)]);
                }
                _ => {}
            }
            sequence += 1;
            send(&mut inbound, second * 1_000, "10.0.0.2", epoch, sequence);
            look(&mut inbound, second * 1_000);
            let counts = tally(&mut inbound).remove(&("b".into(), Family::V4)).unwrap_or_default();
            probes += counts.probes;
            prop_assert_eq!(counts.lost + counts.unknown + counts.outages, 0);
            prop_assert_eq!(probes, second);
        }
    }

    /// Whatever is sent: no panic, and memory stays bounded.
    #[test]
    fn hostile_requests_neither_panic_nor_take_memory(
        packets in prop::collection::vec((any::<u64>(), any::<u32>(), any::<bool>(), 0..5_000_u64, any::<u8>()), 1..300),
    ) {
        let mut inbound = inbound(&[source("b", 9)]);
        let mut now = 0;
        for (sequence, period_ms, large, pause, to) in packets {
            now += pause;
            let class = if large { SizeClass::Large } else { SizeClass::Normal };
            let Request { payload, .. } = request(9, sequence, class);
            let request = Request { to: IpAddr::from([10, 0, 0, to]), payload: Payload { period_ms, ..payload } };
            inbound.handle_request((at(now), at(now)), ip("10.0.0.2"), &request);
            look(&mut inbound, now);
        }
        let side = inbound.senders["b"].sides[0].as_ref().unwrap();
        prop_assert!(side.windows.len() <= MOST_WINDOWS);
    }
}

fn inbound(sources: &[Source]) -> Inbound {
    let mut inbound = Inbound::new(OWN);
    for family in Family::ALL {
        inbound.listen(family);
    }
    inbound.set_sources(sources);
    inbound
}

fn source(node: &str, epoch: u64) -> Source {
    Source {
        node: node.into(),
        zone: "zone".into(),
        epoch,
        addresses: vec![ip("10.0.0.2"), ip("fd00::2")],
        also_from: vec![ip("192.0.2.2")],
    }
}

fn send(inbound: &mut Inbound, millis: u64, from: &str, epoch: u64, sequence: u64) -> Option<Accepted> {
    let request = Request { to: to(from), ..request(epoch, sequence, SizeClass::Normal) };
    inbound.handle_request((at(millis), at(millis)), ip(from), &request)
}

fn request(epoch: u64, sequence: u64, class: SizeClass) -> Request {
    let payload = Payload {
        length: LEN as u16,
        class,
        epoch,
        sequence,
        cookie: 1,
        period_ms: 1_000,
        heard: Heard { highest: 4, count: 3 },
    };
    Request { to: ip("10.0.0.1"), payload }
}

fn to(from: &str) -> IpAddr {
    if ip(from).is_ipv4() { ip("10.0.0.1") } else { ip("fd00::1") }
}

/// A tick in which all is received and nothing dropped.
fn look(inbound: &mut Inbound, millis: u64) {
    let totals: Vec<u64> =
        inbound.listens.iter().map(|each| each.as_ref().and_then(|each| each.total).unwrap_or(0)).collect();
    for (family, total) in Family::ALL.into_iter().zip(totals) {
        inbound.handle_drain(at(millis), family, true, total);
    }
    inbound.look(at(millis), true, |_, _| true);
}

/// What is counted since it was last asked.
fn tally(inbound: &mut Inbound) -> HashMap<(Arc<str>, Family), Counts> {
    let mut counts: HashMap<(Arc<str>, Family), Counts> = HashMap::new();
    for news in inbound.take_news() {
        counts.entry((news.edge.node, news.edge.family)).or_default().add(news.counts);
    }
    counts
}

fn silent(inbound: &mut Inbound) -> Vec<(Arc<str>, Family)> {
    let news = inbound.take_news().into_iter();
    news.filter(|news| news.silent).map(|news| (news.edge.node, news.edge.family)).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos((1_000_000 + millis) * 1_000_000)
}

const OWN: u64 = 1;

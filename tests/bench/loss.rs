//! Losses reported against losses on the wire. Lost on the wire is what had no answer within the timeout in a capture
//! on the agent's own interface.

use crate::Options;
use crate::agent::{Plan, THE_END, results};
use crate::load::{Condition, Pressure, pass};
use crate::path::Path;
use crate::report::{Report, Table};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use podsonar_lab::Agent;
use podsonar_lab::agent::Privilege;
use podsonar_lab::clock::{Deadline, unix_ns};
use podsonar_lab::fault::Loss;
use podsonar_lab::record::Record;
use podsonar_lab::wire::Wire;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The agent's default.
const TIMEOUT: Duration = Duration::from_millis(800);
const RANDOM: Loss = Loss::Random(0.1);

/// What happens to the agent or its packets.
#[derive(Debug, Clone)]
struct Scenario {
    name: String,
    targets: u32,
    protocols: &'static str,
    there: Loss,
    back: Loss,
    condition: Condition,
    /// Whether the process is stopped for a second in the middle.
    is_stopped: bool,
    time: Duration,
}

/// What was found, in probes.
#[derive(Debug, Default)]
struct Verdict {
    recorded: usize,
    lost_on_wire: usize,
    /// Reported lost, but answered in time on the wire, or never sent.
    false_losses: usize,
    /// Reported answered, but not in time on the wire.
    missed_losses: usize,
    unknown: usize,
    /// Unknown, although no packet was dropped by the agent's sockets at that time.
    unexcused: usize,
    /// How many had other results than these, by result.
    others: BTreeMap<String, usize>,
    /// On the wire without a line in the record, or with several.
    miscounted: usize,
    /// The smallest difference seen between the counters of a scrape and the lines of the record.
    law_gap: u64,
}

pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("loss", options.short);
    let columns = [
        "scenario",
        "privilege",
        "probes",
        "lost on the wire",
        "false losses",
        "missed losses",
        "unknown",
        "unexcused",
        "miscounted",
        "counters − lines",
        "other results",
    ];
    let mut table = Table::new("Probes by what the agent and the wire say of them", columns);
    for (privilege, name) in [(Privilege::Everything, "all"), (Privilege::NetRaw, "NET_RAW")] {
        for scenario in scenarios(options).iter().filter(|scenario| options.wants(&scenario.name)) {
            // A short run shows only the extremes without NET_ADMIN.
            if options.short && privilege == Privilege::NetRaw && !scenario.is_telling() {
                continue;
            }
            eprintln!("loss: {}, {name}", scenario.name);
            let verdict = scenario.run(privilege)?;
            table.row(verdict.cells(&scenario.name, name));
            let mut bound = |what: &str, count: usize| {
                report.at_most(format!("{}, {name}: {what}", scenario.name), count as f64, 0.0, "");
            };
            bound("false losses", verdict.false_losses);
            bound("missed losses", verdict.missed_losses);
            bound(
                "unexcused unknown",
                if privilege == Privilege::NetRaw { verdict.unexcused } else { verdict.unknown },
            );
            bound("miscounted", verdict.miscounted + verdict.law_gap as usize);
        }
    }
    report.table(table);
    Ok(report)
}

fn scenarios(options: &Options) -> Vec<Scenario> {
    let usual = Scenario {
        name: String::new(),
        targets: 200,
        protocols: "icmp,tcp",
        there: RANDOM,
        back: RANDOM,
        condition: Condition::Idle,
        is_stopped: false,
        time: options.seconds(1, 20),
    };
    let named = |name: &str| Scenario { name: name.to_owned(), ..usual.clone() };
    let bursts = Loss::bursts(0.1, 20.0);
    let mut all = vec![
        named("10 % each way"),
        Scenario { there: bursts, back: bursts, ..named("bursts of 20") },
        Scenario { there: Loss::None, ..named("10 % on the way back") },
        Scenario {
            there: Loss::None,
            back: Loss::None,
            time: Duration::from_secs(1),
            ..named("first second")
        },
        Scenario {
            targets: 10_000,
            protocols: "icmp",
            there: Loss::None,
            back: Loss::None,
            is_stopped: true,
            time: options.seconds(3, 15),
            ..named("stopped for 1 s")
        },
    ];
    all.extend(
        Condition::ALL.into_iter().skip(1).map(|condition| Scenario { condition, ..named(condition.name()) }),
    );
    all
}

impl Scenario {
    fn is_telling(&self) -> bool {
        self.is_stopped || self.condition == Condition::Both
    }

    fn run(&self, privilege: Privilege) -> Result<Verdict> {
        let path = Path::delayed(self.targets)?;
        path.lose(self.there, self.back);
        let pressure = if self.condition == Condition::Idle {
            Pressure::none()
        } else {
            self.condition.impose(&path.node)?
        };
        let capture = path.capture()?;
        let plan = Plan {
            targets: path.targets(),
            // As often as SYNs may go to a target, so that there are many.
            interval: if self.targets > 1000 { Duration::from_secs(1) } else { Duration::from_millis(250) },
            protocols: self.protocols,
            record: true,
            privilege,
        };
        let mut agent = plan.start(&path.node, &pressure)?;
        let mut drops = Drops::default();
        Self::watch(&agent, &mut drops, self.time)?;
        if self.is_stopped {
            agent.process.signal(Signal::SIGSTOP)?;
            pass(Duration::from_secs(1));
            agent.process.signal(Signal::SIGCONT)?;
            Self::watch(&agent, &mut drops, self.time)?;
        }
        let law_gap = law_gap(&agent)?;
        agent.stop(Deadline::after(THE_END))?;
        let captured = capture.stop()?;
        let records = agent.records()?;
        ensure!(!records.is_empty(), "the agent recorded nothing");
        Ok(Verdict { law_gap, ..judge(&Wire::new(&captured), &records, &drops) })
    }

    /// Lets the agent run and notes when its sockets drop packets.
    fn watch(agent: &Agent, drops: &mut Drops, time: Duration) -> Result<()> {
        let end = Deadline::after(time);
        while !end.passed() {
            drops.note(agent)?;
            pass(end.left().min(Duration::from_secs(1)));
        }
        drops.note(agent)
    }
}

/// When the agent's count of packets that its sockets dropped was read, and how high it was.
#[derive(Debug, Default)]
struct Drops(Vec<(i64, u64)>);

impl Drops {
    fn note(&mut self, agent: &Agent) -> Result<()> {
        let before = unix_ns();
        let count = agent.scrape()?.sum("podsonar_socket_drops_total", &[]).unwrap_or(0.0);
        self.0.push((before, count as u64));
        Ok(())
    }

    /// Whether packets were dropped between two moments, as far as the readings tell.
    fn moved(&self, from_ns: i64, to_ns: i64) -> bool {
        self.0.windows(2).any(|pair| match pair {
            [(begin, before), (end, after)] => before != after && *begin <= to_ns && from_ns <= *end,
            _ => false,
        })
    }
}

fn judge(wire: &Wire, records: &[Record], drops: &Drops) -> Verdict {
    let lost_on_wire = wire.probes().iter().filter(|probe| !probe.is_answered_within(TIMEOUT)).count();
    let mut verdict = Verdict { recorded: records.len(), lost_on_wire, ..Verdict::default() };
    let mut lines: HashMap<*const _, u32> = HashMap::new();
    for record in records {
        let probe = wire.find(record);
        if let Some(probe) = probe {
            *lines.entry(std::ptr::from_ref(probe)).or_default() += 1;
        }
        let is_answered = probe.is_some_and(|probe| probe.is_answered_within(TIMEOUT));
        match record.result.as_str() {
            "lost" if is_answered || probe.is_none() => {
                eprintln!("a false loss: {record:?}, on the wire {probe:?}");
                verdict.false_losses += 1;
            }
            "reply" | "reset" if !is_answered => {
                eprintln!("a missed loss: {record:?}, on the wire {probe:?}");
                verdict.missed_losses += 1;
            }
            "lost" | "reply" | "reset" => {}
            "unknown" => {
                verdict.unknown += 1;
                let from = record.sent_ns.unwrap_or(record.due_ns);
                let is_excused = drops.moved(from, from + TIMEOUT.as_nanos() as i64);
                verdict.unexcused += usize::from(!is_excused);
            }
            other => *verdict.others.entry(other.to_owned()).or_default() += 1,
        }
    }
    let once =
        wire.probes().iter().filter(|probe| lines.get(&std::ptr::from_ref(*probe)) == Some(&1)).count();
    verdict.miscounted = wire.probes().len() - once;
    verdict
}

/// By how much the counters of a scrape differ from the lines of the record, at a moment at which no line was added:
/// both are every probe that fell due. The agent is busy, so several moments are tried, and the best is taken.
fn law_gap(agent: &Agent) -> Result<u64> {
    let recorded =
        || -> Result<u64> { Ok(agent.records()?.iter().filter(|record| record.is_due()).count() as u64) };
    let mut smallest = u64::MAX;
    let end = Deadline::after(Duration::from_secs(5));
    while smallest > 0 && !end.passed() {
        let before = recorded()?;
        let counted = results(&agent.scrape()?);
        let after = recorded()?;
        // The truth of the scrape's moment lies between the two readings.
        smallest = smallest.min(before.saturating_sub(counted).max(counted.saturating_sub(after)));
    }
    Ok(smallest)
}

impl Verdict {
    fn cells(&self, scenario: &str, privilege: &str) -> Vec<String> {
        let counts = [
            self.recorded,
            self.lost_on_wire,
            self.false_losses,
            self.missed_losses,
            self.unknown,
            self.unexcused,
            self.miscounted,
            self.law_gap as usize,
        ];
        let others = self.others.iter().map(|(result, count)| format!("{count} {result}"));
        let mut cells = vec![scenario.to_owned(), privilege.to_owned()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(others.collect::<Vec<_>>().join(", "));
        cells
    }
}

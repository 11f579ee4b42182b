//! Every situation under `tests/scenarios` comes out as its file says, and no verdict contradicts the truth.

#![expect(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails loudly")]

mod sim;

use std::path::Path;
use std::time::Duration;

use podsonar_core::target::Protocol;
use sim::{Scenario, World};

#[test]
fn every_scenario_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let problems: Vec<String> = files.iter().flat_map(|file| problems(file)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::new(scenario(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/random_loss_both_ways.toml"),
        ));
        world.run();
        world.tally.counts
    };
    assert_eq!(run(), run());
}

fn problems(file: &Path) -> Vec<String> {
    let scenario = scenario(file);
    let mut world = World::new(scenario.clone());
    world.run();
    let tally = &world.tally;
    let back_off = Duration::from_millis(scenario.back_off_ms.unwrap_or(29_000));
    tally.assert_law(|stream, step| stream.protocol == Protocol::Tcp && step >= back_off);
    let mut problems: Vec<String> = tally.wrong.iter().take(3).cloned().collect();
    for (label, count) in &tally.counts {
        if !scenario.expect.contains_key(*label) {
            problems.push(format!("{count} {label}, which the file does not expect"));
        }
    }
    for (label, (least, most)) in &scenario.expect {
        let count = tally.counts.get(label.as_str()).copied().unwrap_or(0);
        if !(*least..=*most).contains(&count) {
            problems.push(format!("{count} {label}, expected {least} to {most}"));
        }
    }
    if !(scenario.unobserved.0..=scenario.unobserved.1).contains(&tally.unobserved) {
        problems.push(format!("{} unobserved, expected {:?}", tally.unobserved, scenario.unobserved));
    }
    for label in [
        "boosts",
        "first_reply",
        "first_reply_timeout",
        "flow_dead",
        "flow_healed",
        "never_answered",
        "never_reachable",
    ] {
        let count = tally.verdicts.get(label).copied().unwrap_or(0);
        let anything = if label == "boosts" { u64::MAX } else { 0 };
        let (least, most) = scenario.verdicts.get(label).copied().unwrap_or((0, anything));
        if !(least..=most).contains(&count) {
            problems.push(format!("{count} {label}, expected {least} to {most}"));
        }
    }
    for finding in tally.path_mtu.values() {
        let found = (finding.path_mtu.unwrap_or(0), finding.blackholed);
        if scenario.path_mtu.is_some_and(|expected| expected != found) {
            problems.push(format!("{finding:?}"));
        }
    }
    if scenario.path_mtu.is_some() && tally.path_mtu.is_empty() {
        problems.push("nothing was found out about large packets".into());
    }
    if scenario.lost_by_ms.is_some_and(|by| tally.first_lost_ms.is_none_or(|first| first > by)) {
        problems.push(format!("the first loss was told at {:?} ms", tally.first_lost_ms));
    }
    if scenario.fetches.is_some_and(|most| tally.fetches > most) {
        problems.push(format!("{} fetches", tally.fetches));
    }
    if scenario.largest_tick.is_some_and(|most| tally.largest_tick > most) {
        problems.push(format!("{} probes in one tick", tally.largest_tick));
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    problems.into_iter().map(|problem| format!("{name} ({}): {problem}", scenario.claim)).collect()
}

fn scenario(file: &Path) -> Scenario {
    let text = std::fs::read_to_string(file).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

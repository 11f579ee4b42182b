//! The API server takes what the chart renders, and all of it.

use crate::cluster;
use crate::release::{Release, ways};
use crate::steps::Steps;

#[test]
fn every_way_is_what_the_api_server_takes() {
    let cluster = cluster();
    let mut steps = Steps::of("accepted");
    let ways = ways();
    assert!(ways.len() >= 8, "{ways:?}");
    for way in ways {
        let release = Release { helm: "helm", way: way.leak() };
        let objects = release.render(&cluster);
        // Strict: a field that the server does not know is an error too.
        let said =
            cluster.dry_run(&objects).unwrap_or_else(|error| panic!("the way {}: {error}", release.way));
        assert!(said.contains("daemonset.apps/podsonar"), "{}: {said}", release.way);
    }
    steps.done("all ways");
}

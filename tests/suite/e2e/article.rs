//! What every article on the network of pods says, in a cluster with all else that goes on there.

use crate::cluster;
use crate::servers::{MANIFEST, Servers};

#[test]
fn pods_answer_by_address_and_dns_name_and_not_by_bare_name() {
    let cluster = cluster();
    let servers = Servers::install(&cluster);
    servers.are_told(&cluster, &cluster.scrape(&servers.observer).unwrap());
    cluster.delete(MANIFEST).unwrap();
    for node in &servers.nodes {
        cluster.kubectl(&["label", "node", node, "podsonar.io/article-"]).unwrap();
    }
}

//! Programs that the scripts in `tests/tools` make available, in the user's cache folder.

use crate::error::LabError;
use std::env;
use std::path::{Path, PathBuf};

/// A server that `tests/tools/servers.sh` (`prometheus3`: `tests/tools/prometheus.sh`) makes available.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run. The lab fetches and builds nothing.
pub fn server(name: &str) -> Result<PathBuf, LabError> {
    find("servers", name, "make servers")
}

/// A part of a Kubernetes cluster that `tests/tools/kubernetes.sh` makes available.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run.
pub fn cluster(name: &str) -> Result<PathBuf, LabError> {
    find("cluster", name, "make kubernetes")
}

/// etcd as `tests/tools/etcd.sh` makes it available: new enough for an API server that streams lists.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run.
pub fn etcd() -> Result<PathBuf, LabError> {
    find("etcd", "etcd", "make kubernetes")
}

/// What the chart is checked with: `helm`, `helm3`, or the folder `crds` from `tests/tools/chart.sh`.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run.
pub fn chart(name: &str) -> Result<PathBuf, LabError> {
    find("chart", name, "make helm")
}

/// prometheus-operator's generator of scrape configurations, which `tests/tools/scrapeconfig.sh` makes available.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run.
pub fn scrapeconfig() -> Result<PathBuf, LabError> {
    find("chart", "scrapeconfig", "make scraping")
}

/// A program to compare with, one that `tests/tools/peers.sh` makes available.
///
/// # Errors
/// [`LabError::Missing`] if the script has not run.
pub fn peer(name: &str) -> Result<PathBuf, LabError> {
    find("peers", name, "tests/tools/peers.sh")
}

fn find(family: &str, name: &str, command: &str) -> Result<PathBuf, LabError> {
    let home = || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let path = cache.join("podsonar").join(family).join("bin").join(name);
    let hint = || format!("{name} is not at {}; run {command}", path.display());
    if path.exists() { Ok(path) } else { Err(LabError::Missing { what: "a real program", hint: hint() }) }
}

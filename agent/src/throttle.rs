//! How long a CPU quota has stopped this process: the `cpu.stat` of its own cgroup, version 1 or 2.
//!
//! A quota of a cgroup above is not in it; that shows in the agent's lag and stalls alone. A read can take
//! milliseconds where there are many cgroups, since the kernel adds up all processors, so the driver does not do it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::health::Throttling;
use podsonar_core::time::Instant;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock;
use crate::metrics::state::Metrics;

/// How often it is read.
const EVERY: Duration = Duration::from_secs(1);

/// Reads the throttling of this process once a second and shows it in the metrics, for ever. Without a `cpu.stat` that
/// tells of a quota nothing is shown.
pub async fn watch(metrics: Arc<Metrics>) {
    let Some(file) = of_this_process() else { return };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stat = fs::read_to_string(&file).ok();
        metrics.set_throttling(stat.and_then(|stat| parse(&stat, clock::now())));
    }
}

/// The `cpu.stat` of this process' cgroup.
fn of_this_process() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    locate(&cgroups, &mounts).into_iter().find(|file| file.is_file())
}

/// Where `cpu.stat` may be, best first, from the texts of `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo`
/// (proc(5)). The CPU controller is in one hierarchy only; where it is in version 1, version 2 has no quota.
pub fn locate(cgroups: &str, mounts: &str) -> Vec<PathBuf> {
    let one = own_path(cgroups, |controllers| controllers.split(',').any(|each| each == "cpu"));
    let two = own_path(cgroups, str::is_empty);
    let in_one = one.and_then(|path| {
        find(mounts, path, |kind, options| kind == "cgroup" && options.split(',').any(|each| each == "cpu"))
    });
    let in_two = two.and_then(|path| find(mounts, path, |kind, _| kind == "cgroup2"));
    in_one.into_iter().chain(in_two).map(|folder| folder.join("cpu.stat")).collect()
}

/// The throttling in a `cpu.stat` that was read at `at`: version 1 counts nanoseconds (sched-bwc), version 2
/// microseconds (cgroup-v2). `None` if it tells of no quota, as in a root cgroup.
pub fn parse(stat: &str, at: Instant) -> Option<Throttling> {
    let field = |name| {
        let values = stat.lines().filter_map(|line| line.split_once(' '));
        values.filter(|(key, _)| *key == name).find_map(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let one = || field("throttled_time").map(Duration::from_nanos);
    let two = || field("throttled_usec").map(Duration::from_micros);
    Some(Throttling { at, time: one().or_else(two)?, periods: field("nr_throttled")? })
}

/// The path of the process in the hierarchy with these controllers: lines are `id:controllers:path`.
fn own_path(cgroups: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    let mut lines = cgroups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    lines.find(|(controllers, _)| wanted(controllers)).map(|(_, path)| path)
}

/// The folder of a cgroup below the mount of its hierarchy.
fn find(mounts: &str, path: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // id, parent, device, root, mount point, options, optional fields, "-", type, source, options of the type
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, point) = (head.next()?, head.next()?);
        let mut tail = tail.split(' ');
        let (kind, _, options) = (tail.next()?, tail.next()?, tail.next()?);
        // A container may see only its own cgroup mounted: then its root is the path, or a path outside.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        wanted(kind, options).then(|| Path::new(point).join(below))
    })
}

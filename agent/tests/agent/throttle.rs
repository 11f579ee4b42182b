//! Where a cgroup tells of throttling, and what it tells: `../cgroup` has files as kernels show them (`hybrid.*`,
//! `v1.stat` and `v2-root.stat` recorded on Linux 6.18, the others as containerd, Docker and systemd set them up).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podsonar::throttle::{locate, parse};
use podsonar_core::health::Throttling;
use podsonar_core::time::Instant;

#[test]
fn the_file_is_found_in_either_version_and_in_containers() {
    for (name, files) in [
        ("v2-kubernetes", ["/sys/fs/cgroup/cpu.stat"].as_slice()),
        ("v2-systemd", &["/sys/fs/cgroup/system.slice/podsonar.service/cpu.stat"]),
        ("v1-docker", &["/sys/fs/cgroup/cpu,cpuacct/cpu.stat"]),
        ("hybrid", &["/sys/fs/cgroup/cpu/podsonar/cpu.stat", "/sys/fs/cgroup/unified/cpu.stat"]),
    ] {
        let found = locate(&read(&format!("{name}.cgroup")), &read(&format!("{name}.mountinfo")));
        assert_eq!(found, files.iter().map(PathBuf::from).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn nothing_is_found_where_nothing_is_mounted() {
    assert!(locate(&read("v2-systemd.cgroup"), "").is_empty());
    assert!(locate("", &read("v2-systemd.mountinfo")).is_empty());
    assert!(locate("garbage", "more - garbage").is_empty());
}

#[test]
fn a_cgroup_beside_the_one_that_is_mounted_reads_what_is_mounted() {
    let cgroups = "0::/kubepods/burstable/pod1/other";
    let mounts = "30 24 0:27 /kubepods/burstable/pod1/self /sys/fs/cgroup ro - cgroup2 cgroup rw";
    assert_eq!(locate(cgroups, mounts), [PathBuf::from("/sys/fs/cgroup/cpu.stat")]);
}

#[test]
fn both_versions_tell_time_and_periods() {
    let (at, one) = (Instant::from_nanos(7), Duration::from_nanos(2_818_966_124));
    assert_eq!(parse(&read("v1.stat"), at), Some(Throttling { at, time: one, periods: 31 }));
    let two = Duration::from_micros(27_390_514);
    assert_eq!(parse(&read("v2.stat"), at), Some(Throttling { at, time: two, periods: 411 }));
}

#[test]
fn without_a_quota_nothing_is_told() {
    for stat in [
        read("v2-root.stat").as_str(),
        "",
        "nr_throttled",
        "throttled_usec 1",
        "throttled_usec -1\nnr_throttled 1",
    ] {
        assert_eq!(parse(stat, Instant::from_nanos(0)), None, "{stat}");
    }
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroup").join(name)).unwrap()
}

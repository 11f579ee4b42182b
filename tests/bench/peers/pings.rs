//! `fping` and `oping`: programs that print a line for each ping.

use crate::Options;
use crate::load::Pressure;
use anyhow::Result;
use podsonar_lab::{Host, Process};
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

/// What a line says of a ping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ping {
    /// Whom it asked.
    pub(crate) target: IpAddr,
    /// Its number among those to the target, from 0 on.
    pub(crate) number: usize,
    /// The round trip; none if it is reported lost.
    pub(crate) seconds: Option<f64>,
}

/// Starts fping: `count` echo requests to each target, else without an end, `interval` apart, evenly spread, a line for
/// each.
pub(crate) fn fping(
    host: &Host,
    options: &Options,
    targets: &[IpAddr],
    interval: Duration,
    count: Option<u64>,
    pressure: &Pressure,
) -> Result<Process> {
    let mut command = Command::new(options.peer("fping")?);
    let apart = interval.as_millis() as f64 / targets.len().max(1) as f64;
    command.arg(count.map_or("-l".to_owned(), |count| format!("-c{count}")));
    command.arg(format!("-p{}", interval.as_millis())).arg(format!("-i{apart:.3}"));
    command.args(["-t", "800"]).args(targets.iter().map(IpAddr::to_string));
    Ok(host.spawn(pressure.command(command))?)
}

/// Starts oping: echo requests to each target, `interval` apart, all targets at once, a line for each.
pub(crate) fn oping(
    host: &Host,
    options: &Options,
    targets: &[IpAddr],
    interval: Duration,
    pressure: &Pressure,
) -> Result<Process> {
    let mut command = Command::new(options.peer("oping")?);
    command.arg("-i").arg(interval.as_secs_f64().to_string()).args(["-w", "0.8"]);
    command.args(targets.iter().map(IpAddr::to_string));
    // Numbers with a point, whatever the user has.
    command.env("LC_ALL", "C");
    Ok(host.spawn(pressure.command(command))?)
}

/// Reads a line of fping. Lines of its summary are none.
pub(crate) fn fping_line(line: &str) -> Option<Ping> {
    let (target, rest) = line.split_once(" : [")?;
    let (number, rest) = rest.split_once("], ")?;
    let (target, number) = (target.trim().parse().ok()?, number.parse().ok()?);
    if rest.starts_with("timed out") {
        return Some(Ping { target, number, seconds: None });
    }
    let (_, rest) = rest.split_once(" bytes, ")?;
    let (millis, _) = rest.split_once(" ms")?;
    Some(Ping { target, number, seconds: Some(millis.parse::<f64>().ok()? / 1e3) })
}

/// Reads a line of oping. Lines of its summary are none.
pub(crate) fn oping_line(line: &str) -> Option<Ping> {
    let (_, rest) = line.split_once(" from ")?;
    let (target, rest) = rest.split_once(" (")?;
    let (_, rest) = rest.split_once("icmp_seq=")?;
    let (sequence, rest) = rest.split_once(' ')?;
    let number = sequence.parse::<usize>().ok()?.checked_sub(1)?;
    let millis = rest.split_once("time=").and_then(|(_, rest)| rest.strip_suffix(" ms"));
    let seconds = match millis {
        Some(millis) => Some(millis.parse::<f64>().ok()? / 1e3),
        None if rest == "timeout" => None,
        None => return None,
    };
    Some(Ping { target: target.parse().ok()?, number, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fping_tells_target_number_and_round_trip() {
        let ping = |seconds| Some(Ping { target: [10, 1, 0, 7].into(), number: 3, seconds });
        let line = "10.1.0.7 : [3], 64 bytes, 0.587 ms (0.55 avg, 0% loss)";
        assert_eq!(fping_line(line), ping(Some(0.000_587)));
        assert_eq!(fping_line("10.1.0.7 : [3], timed out (0.55 avg, 25% loss)"), ping(None));
        assert_eq!(fping_line("10.1.0.7 : xmt/rcv/%loss = 4/4/0%"), None);
    }

    #[test]
    fn a_line_of_oping_tells_target_number_and_round_trip() {
        let ping = |seconds| Some(Ping { target: [10, 1, 0, 7].into(), number: 3, seconds });
        let line = "56 bytes from 10.1.0.7 (10.1.0.7): icmp_seq=4 ttl=64 time=0.58 ms";
        assert_eq!(oping_line(line), ping(Some(0.000_58)));
        assert_eq!(oping_line("echo reply from 10.1.0.7 (10.1.0.7): icmp_seq=4 timeout"), ping(None));
        assert_eq!(oping_line("2 packets transmitted, 2 received, 0.00% packet loss, time 0.1ms"), None);
        assert_eq!(oping_line("PING 10.1.0.7 (10.1.0.7) 56 bytes of data."), None);
    }
}

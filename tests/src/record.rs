//! [`Record`]: a line of the agent's `--record` file.

use crate::error::LabError;
use serde::Deserialize;
use std::net::IpAddr;

/// One finished probe as the agent saw it. Results and reasons are text here: the lab judges what the agent writes, so
/// it does not share the agent's types.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// `due`; or `flow`, `listener`, `large`: sent to explain something.
    pub purpose: String,
    /// `fixed`, `name` or `control`.
    pub kind: String,
    /// The target as the user wrote it.
    pub target: String,
    /// The address probed.
    pub address: IpAddr,
    /// The port; none for ICMP.
    pub port: Option<u16>,
    /// `icmp` or `tcp`.
    pub protocol: String,
    /// When it fell due, Unix time in nanoseconds.
    pub due_ns: i64,
    /// The transmit stamp, Unix time in nanoseconds; none if it was not sent.
    pub sent_ns: Option<i64>,
    /// Round trip in nanoseconds; only for a reply or reset.
    pub rtt_ns: Option<i64>,
    /// A `result` of `podsonar_probes_total` or a `reason` of `podsonar_probes_void_total`.
    pub result: String,
    /// The ICMP error or errno as a fixed word.
    pub reason: Option<String>,
    /// Where the stamps came from.
    pub stamp: Stamp,
    /// ICMP identifier.
    pub icmp_id: Option<u16>,
    /// ICMP: the header's sequence; TCP: the sequence number. None if it was not sent.
    pub sequence: Option<u32>,
    /// The keyed cookie in hexadecimal.
    pub cookie: Option<String>,
    /// TCP source port; none for ICMP.
    pub source_port: Option<u16>,
}

/// Who took the time stamps: `software`, `sched` or `user`; none where there is no stamp.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The transmit stamp's.
    pub tx: Option<String>,
    /// The receive stamp's.
    pub rx: Option<String>,
}

impl Record {
    /// Whether the schedule wanted it; the others were sent to explain something.
    pub fn is_due(&self) -> bool {
        self.purpose == "due"
    }

    /// Whether the agent says that it was answered: `reply` or `reset`.
    pub fn is_answered(&self) -> bool {
        matches!(self.result.as_str(), "reply" | "reset")
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`LabError::Malformed`] for a line that lacks a field or has an unknown one.
    pub fn parse(line: &str) -> Result<Self, LabError> {
        serde_json::from_str(line).map_err(|error| {
            let text = format!("{line} ({error})");
            LabError::Malformed { what: "a --record line", text }
        })
    }
}

/// Reads the lines of a file of records. A last line without its end is left out: the agent is writing it.
pub fn parse(file: &[u8]) -> Result<Vec<Record>, LabError> {
    let text = String::from_utf8_lossy(file);
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(Record::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_reads_with_all_its_fields() {
        let record = Record::parse(REPLY).unwrap();
        assert_eq!(record.rtt_ns, Some(512_345));
        assert!(record.is_answered());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(Record::parse(&REPLY.replace("rtt_ns", "rtt_us")).is_err());
    }

    const REPLY: &str = r#"{"purpose":"due","kind":"fixed","target":"10.0.0.2","address":"10.0.0.2","port":null,"protocol":"icmp","due_ns":1,
        "sent_ns":2,"rtt_ns":512345,"result":"reply","reason":null,"stamp":{"tx":"software","rx":"software"},
        "icmp_id":7,"sequence":3,"cookie":"0123456789abcdef","source_port":null}"#;
}

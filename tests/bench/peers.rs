//! The programs that podsonar is compared with, in a host of the lab.

pub(crate) mod blackbox;
pub(crate) mod pings;
pub(crate) mod smokeping;

pub(crate) use pings::{Ping, fping, fping_line, oping, oping_line};
pub(crate) use smokeping::Smokeping;

use crate::load::pass;
use anyhow::{Result, bail};
use podsonar_lab::Process;
use podsonar_lab::clock::Deadline;
use std::time::Duration;

/// Waits until a program serves. Under a quota that takes long.
fn wait_until_served(process: &Process, asked: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Deadline::after(Duration::from_mins(2));
    while let Err(error) = asked() {
        if deadline.passed() {
            bail!("a program does not serve ({error}); it said:\n{}", process.lines().join("\n"));
        }
        pass(Duration::from_millis(100));
    }
    Ok(())
}

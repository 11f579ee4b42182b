//! podsonar's decisions, without the world: what is probed when, what a packet means, what became of each probe.
//!
//! This crate is pure. It reads no clock, opens no socket, runs on no runtime and knows no metric; time is an
//! argument, packets are byte slices, and what happened comes out as values. The driver in the `podsonar` crate
//! carries it out on real sockets; the scenarios under `tests/` do so in memory.
//!
//! Start with [`engine`]: everything else serves it.

pub mod config;
pub mod direction;
pub mod engine;
pub mod exchange;
pub mod health;
pub mod mesh;
pub mod outcome;
pub mod query;
pub mod roster;
pub mod selection;
pub mod shape;
pub mod target;
pub mod time;
pub mod wire;

mod flows;
mod hash;
mod inflight;
mod inquiry;
mod mtu;
mod pace;
mod queue;
mod schedule;

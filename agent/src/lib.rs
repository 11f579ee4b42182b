//! podsonar's agent: wires the decisions of `podsonar_core` to sockets, clocks, files and HTTP.
//!
//! [`run`](run::run) reads like the agent's life: settings, sockets, driver thread, HTTP, shutdown. The
//! [`driver`] carries out what the engine decides; the [`ledger`] turns its results into [`metrics`] and records.

pub mod clock;
pub mod condition;
pub mod degrade;
pub mod discovery;
pub mod driver;
pub mod exchange;
pub mod glance;
pub mod http;
pub mod ledger;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod record;
pub mod reload;
pub mod run;
pub mod settings;
pub mod status;
pub mod throttle;

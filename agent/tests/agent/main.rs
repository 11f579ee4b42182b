//! The agent from outside: its command line, its ledger, its scrape and its record.

#[cfg(test)]
mod budget;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod config;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod dns;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod inbound;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod names;
#[cfg(test)]
mod pods;
mod preflight;
#[cfg(test)]
mod record;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod sizing;
#[cfg(test)]
mod status;
#[cfg(test)]
mod support;
#[cfg(test)]
mod throttle;

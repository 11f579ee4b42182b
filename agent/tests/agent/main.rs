//! The agent from outside: its command line, its ledger, its scrape and its record.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod record;
#[cfg(test)]
mod scrape;
#[cfg(test)]
mod support;

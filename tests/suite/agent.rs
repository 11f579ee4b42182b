//! The agent in the lab.

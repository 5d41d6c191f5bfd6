//! Every decision of the shipper. Pure: no I/O, no clock, no randomness of its own.

pub mod verdict;

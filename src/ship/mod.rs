//! The shipper, in the order of an episode's way.

pub mod archive;
pub mod machine;
pub mod outcome;
pub mod transport;

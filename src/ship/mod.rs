//! The shipper, in the order of an episode's way: packed into an [`archive`] by [`pack`].

pub mod archive;
pub mod pack;

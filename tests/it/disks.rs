//! Disks that are full, small, failing or taken away, and what is done about it.

mod direct;
mod full;

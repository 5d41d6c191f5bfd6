//! The `sealift` program.

fn main() {}

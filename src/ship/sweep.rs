//! thin
use crate::{layout::Layout, progress::Progress, records::WallTime};
/// thin
pub fn sweep(_l: &Layout, _q: Option<u32>, _s: Option<u32>, _now: WallTime, _p: &Progress) {}

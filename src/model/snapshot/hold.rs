//! Why the destination is not sent to, or more slowly than it may be.

use serde::{Deserialize, Serialize};

/// A destination that is sent to more slowly than it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slowed {
    /// So many uploads at once.
    pub at_once: u64,
    /// When the next one may begin.
    pub next_in_s: u64,
}

/// A destination that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// For how long already.
    pub for_s: u64,
    /// Why, as last heard.
    pub why: String,
    /// The HTTP status; `None` where no answer came.
    pub status_code: Option<u16>,
    /// When the next probe goes; 0: as soon as there is an episode to send.
    pub next_probe_in_s: u64,
    /// It is the weather (503, no connection, a time-out), which passes by itself.
    #[serde(default)]
    pub weather: bool,
    /// The one episode that this is known from, where others were delivered since the start: others
    /// are sent all the same.
    pub suspect: Option<String>,
    /// Nothing waits that could be sent. So it is not known whether it is over: the next episode is
    /// tried at once.
    #[serde(default)]
    pub idle: bool,
}

/// Weather that has lasted for so long, seconds, is for a person: a restart, a full disk that is
/// relieved, or a line that comes back are over by then. So is what one episode alone has met.
pub(crate) const WEATHER_LASTS_S: u64 = 300;

impl HoldStatus {
    /// Whether an operator must act: at once where the destination is at fault, and where weather,
    /// or what is known from one episode alone, has lasted and keeps something waiting.
    pub fn is_for_a_person(&self) -> bool {
        (!self.weather && self.suspect.is_none()) || (self.for_s >= WEATHER_LASTS_S && !self.idle)
    }
}

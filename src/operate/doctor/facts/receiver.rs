//! The receiver, and what it told this host.

use serde_json::Value;

use crate::model::{
    episode::{Commit, EpisodeId},
    records::WallTime,
};

/// What came of asking the receiver.
#[derive(Debug)]
pub(in crate::operate::doctor) struct ReceiverFacts {
    /// Scheme, host and port.
    pub(in crate::operate::doctor) origin: String,
    /// The host's name alone.
    pub(in crate::operate::doctor) host: String,
    /// Whether systemd knows a receiver on this machine.
    pub(in crate::operate::doctor) unit_here: bool,
    /// Whether `/v1/admission` was asked, which only a receiver of ours has; else an episode that
    /// is not there.
    pub(in crate::operate::doctor) at_admission: bool,
    /// Whether anything was sent to say who we are.
    pub(in crate::operate::doctor) has_credential: bool,
    /// The commit that was asked with.
    pub(in crate::operate::doctor) commit: AskedCommit,
    /// Why that of the newest episode could not be read, where its `meta.json` is no JSON.
    pub(in crate::operate::doctor) meta_fault: Option<String>,
    /// What it said.
    pub(in crate::operate::doctor) said: ReceiverAnswer,
    /// How it took a plain request, where it answered none.
    pub(in crate::operate::doctor) plain: Option<PlainRequest>,
    /// What it told this host to do.
    pub(in crate::operate::doctor) remedy: Option<Remedy>,
}

/// How what listens at an `http://` address took a plain request that it did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operate::doctor) enum PlainRequest {
    /// By a TLS alert (RFC 8446, section 6).
    Alert,
    /// It closed the connection, and said nothing.
    Closed,
}

/// What a receiver tells a host to do. One line, printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operate::doctor) enum Remedy {
    /// A shell takes it.
    Command(String),
    /// A person does.
    Words(String),
}

/// Which commit the receiver was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operate::doctor) enum AskedCommit {
    /// That of the newest episode in `episodes/` that has one.
    Of(EpisodeId, Commit),
    /// There are episodes, and none has one.
    None,
    /// Nothing in `episodes/` has one: that of the last episode that was shipped or put aside.
    Last(EpisodeId, Commit),
    /// Nothing is in `episodes/`, and what left it has none.
    LastNone,
    /// There are no episodes, and never were.
    NoEpisodes,
    /// The folders did not answer in time.
    Unknown,
}

/// What a receiver said.
#[derive(Debug)]
pub(in crate::operate::doctor) enum ReceiverAnswer {
    /// Nothing.
    Failed(crate::http::client::ClientError),
    /// This.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The body, where it is a JSON object with a JSON media type.
        json: Option<Value>,
        /// A web page.
        html: bool,
        /// `Location`
        location: Option<String>,
        /// Its clock.
        date: Option<WallTime>,
        /// When its certificate ends, where TLS is spoken.
        certificate_ends: Option<WallTime>,
    },
    /// It was not asked: our own files cannot be used.
    NotAsked,
}

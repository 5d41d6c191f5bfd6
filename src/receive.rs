//! The receiver: the half that must never lie. What it acknowledges would survive a power cut.
//!
//! ```text
//!  PUT /v1/episodes/{id}
//!    │ serve     a connection: limits, keep-alive, time-outs;
//!    │           tls: the handshake, and whose certificate it is
//!    ▼
//!  route         the head only ──▶ identity (pure) ──▶ admit (pure: offer × what is held
//!    │                                                        × window and limits)
//!    │                              ├─ not a known caller ──────▶ 401
//!    │                              ├─ held already ────────────▶ 200 receipt
//!    │                              ├─ held with other content ─▶ 409
//!    │                              ├─ not taken ───────────────▶ 400, 412, 413
//!    │                              ├─ unproven ──▶ store.verify ──▶ admit again
//!    │ ◀─────────────────────────── └─ store
//!    ▼  100 Continue goes out when the body is first asked for
//!  store         incoming/<key>.<unique>.part   written and hashed as it arrives;
//!    │                                          bounded memory; flushed in slices
//!    │             ├ it breaks off ──▶ kept: goes on there, or expires
//!    │             └ digest ≠ Repr-Digest ──────────────────────▶ 400, nothing stays
//!    ▼
//!  publish       fsync file, rename without overwriting, fsync folder
//!    │             └ the name is taken ──▶ admit again ──▶ 200 or 409
//!    ▼
//!  201 receipt   episodes/<id>.tar.zst is the commit point; receipts/<id>.json beside it
//!                can be rebuilt, but for whose it is
//! ```
//!
//! Every answer about an episode is read off the store, never off this process's memory: many
//! receivers may stand on one store, and which of two PUTs of one id was first is settled by the
//! publication that does not overwrite.

pub mod access;
mod active_uploads;
pub(crate) mod admit;
mod body;
mod client_stream;
mod connections;
mod get;
pub(crate) mod identity;
mod known_hosts;
mod metrics;
mod precondition;
mod put;
pub(crate) mod range;
mod reply;
mod request_context;
mod room;
mod route;
pub mod serve;
pub(crate) mod store;
pub(crate) mod stored_episode;
pub mod tally;
mod tls;
mod turns;
mod upload_session;
mod verifications;
pub(crate) mod window;

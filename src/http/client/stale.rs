//! What shows that a connection which was kept is of no more use, and which are not kept at all.
//!
//! Pure.

use http::{StatusCode, Version, header::CONNECTION};

use super::{ClientError, Wait};
use crate::model::wire;

/// A kept connection that had died looks so: closed, reset, or nothing acknowledged.
pub(super) fn ends_a_connection(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Lost(_) | ClientError::TimedOut(Wait::Idle)
    )
}

/// A 408 that closes a connection which was kept is said to nothing: a server that closes an idle
/// connection may say so first (RFC 9110, section 15.5.9), and our request had crossed it. What a
/// receiver of ours says is about an upload.
pub(super) fn closes_an_idle_one<B>(response: &http::Response<B>) -> bool {
    response.status() == StatusCode::REQUEST_TIMEOUT
        && closes(response)
        && wire::media_type(response.headers()) != wire::PROBLEM_TYPE
}

/// Whether nothing follows on the connection: by its `Connection`, else by its version (RFC 9112,
/// section 9.3).
fn closes<B>(response: &http::Response<B>) -> bool {
    let values = response
        .headers()
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let options: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let has = |option: &str| options.iter().any(|said| said.eq_ignore_ascii_case(option));
    has("close") || (response.version() < Version::HTTP_11 && !has("keep-alive"))
}

/// Behind a front's own 5xx or 408, the answer that it had given up may still come on the same
/// connection, and would be taken for that to the next request.
pub(super) fn serves_the_next(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::REQUEST_TIMEOUT
}

//! The HTTP client's side: the configured address and headers, the connections, and the receiver
//! as every request reaches it.

pub mod client;
pub mod endpoint;
pub(crate) mod url_template;

//! An address that only this machine can reach.

use std::net::SocketAddr;

use super::{ConfigError, value};

/// Metrics tell how much is recorded here, and any client that asks gets them: on this machine
/// alone.
pub(super) fn parse(listen: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if listen.is_empty() {
        return Ok(None);
    }
    let key = "shipper.metrics_listen";
    let address: SocketAddr = listen.parse().map_err(|_| {
        value(
            key,
            format!(
                "{listen:?} is no address with a port, such as \"127.0.0.1:9491\" or \"[::1]:9491\""
            ),
        )
    })?;
    if !address.ip().to_canonical().is_loopback() {
        let message = format!(
            "{listen} can be reached from other machines, and callers would not be asked who they are: take 127.0.0.1 or [::1], and let a \
             collector on this machine pass it on"
        );
        return Err(value(key, message));
    }
    Ok(Some(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_reach_it() {
        assert!(parse("").unwrap().is_none());
        for ours in [
            "127.0.0.1:9491",
            "127.9.9.9:0",
            "[::1]:9491",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(parse(ours).unwrap().unwrap().to_string(), ours);
        }
        for (other, says) in [
            ("0.0.0.0:9491", "can be reached from other machines"),
            ("[::]:9491", "can be reached from other machines"),
            ("192.0.2.1:9491", "can be reached from other machines"),
            (
                "[::ffff:10.0.0.1]:9491",
                "can be reached from other machines",
            ),
            ("localhost:9491", "is no address with a port"),
            ("127.0.0.1", "is no address with a port"),
            ("9491", "is no address with a port"),
        ] {
            let error = parse(other).unwrap_err().to_string();
            assert!(
                error.starts_with("shipper.metrics_listen: ") && error.contains(says),
                "{error}"
            );
        }
    }
}

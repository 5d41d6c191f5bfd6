//! A connection that was kept, and of which something on the way knows no more: a firewall, an
//! address translation.
//!
//! In a network of its own, in which answers to one port lead nowhere.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::support::{Sandbox, eventually, sealift};

const RECEIVER: &str = "127.0.0.1:8490";

/// A network of its own, which ends with this.
struct Network(Child);

impl Network {
    /// `None` on a laptop, where that needs root.
    fn new() -> Option<Self> {
        let made = Command::new("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && ip rule add pref 10 lookup local && ip rule del pref 0 && echo up && exec sleep 600"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = made {
            let mut up = [0; 3];
            if std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).is_ok() {
                return Some(Self(child));
            }
            let _ = child.wait();
        }
        assert!(std::env::var_os("CI").is_none(), "CI can make a network");
        println!("skipped: a network of its own needs root, unshare and ip");
        None
    }

    /// The same command, in here.
    fn within(&self, command: &Command) -> Command {
        let mut within = Command::new("nsenter");
        within
            .args(["-t", &self.0.id().to_string(), "-n"])
            .arg(command.get_program())
            .args(command.get_args());
        within
            .env_remove("SEALIFT_CONFIG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        within
    }

    /// Ours of the connections to the receiver.
    fn port_of_the_connection(&self) -> Option<u16> {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.0.id())).unwrap();
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Established (1), to port 8490.
            let is_ours = fields[2].ends_with(":212A") && fields[3] == "01";
            is_ours.then(|| u16::from_str_radix(fields[1].split(':').nth(1).unwrap(), 16).unwrap())
        })
    }

    fn swallow_answers_to(&self, port: u16) {
        let port = port.to_string();
        let mut rule = Command::new("ip");
        rule.args([
            "rule",
            "add",
            "pref",
            "1",
            "ipproto",
            "tcp",
            "dport",
            &port,
            "blackhole",
        ]);
        assert!(self.within(&rule).status().unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_first_write_on_a_kept_connection_that_is_not_acknowledged_is_given_up_after_a_few_seconds() {
    let Some(network) = Network::new() else {
        return;
    };
    let sandbox = Sandbox::new(format!("http://{RECEIVER}"));
    let mut receiver = sealift();
    receiver
        .args(["receive", "--listen", RECEIVER, "--store"])
        .arg(sandbox.store());
    let receiver = sandbox.start(network.within(&receiver));
    receiver.wait_log("local_addr=");
    let daemon = sandbox.start(network.within(&sandbox.command("ship")));
    sandbox.seal("first", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("first");
    let mut port = None;
    eventually("the connection is kept", || {
        port = network.port_of_the_connection();
        port.is_some()
    });
    network.swallow_answers_to(port.unwrap());
    // Half a minute is waited for at most; the idle time-out is a whole one.
    sandbox.seal("second", &[("data.bin", b"recorded")]);
    sandbox.wait_shipped("second");
    let log = daemon.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

//! What systemd's journal gets, by its own protocol.

use std::{collections::BTreeMap, os::unix::net::UnixDatagram, process::Command, time::Duration};

use crate::support::{Reply, Sandbox, Scripted};

/// One entry: its fields. None may be there twice.
fn entry(message: &[u8]) -> BTreeMap<String, String> {
    let (mut fields, mut rest) = (BTreeMap::new(), message);
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let line = String::from_utf8(rest[..end].to_vec()).unwrap();
        rest = &rest[end + 1..];
        // Either NAME=value, or NAME, a length of 64 bits, and the value.
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                rest = &rest[8 + length + 1..];
                (line, value)
            }
        };
        assert!(fields.insert(name.clone(), value).is_none(), "{name} twice");
    }
    fields
}

#[test]
fn under_systemd_an_episode_is_one_entry_of_the_journal_with_its_fields() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::json(422, &serde_json::json!({"title": "no"})),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("good", &[("data.bin", b"recorded")]);
    sandbox.seal("bad", &[]);
    let journal = sandbox.path("journal");
    std::fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    // In a namespace of its own, the journal's socket is ours, and stderr is its stream.
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {journal:?} /run/systemd/journal \
         && JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\""
    );
    let possible =
        Command::new("unshare").args(["-Urm", "/bin/sh", "-c", "mount -t tmpfs none /run"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "no user namespaces here, and CI must have them");
        println!("skipped: no user namespaces here");
        return;
    }
    let ship = sandbox.command("ship");
    let mut command = Command::new("unshare");
    command.args(["-Urm", "/bin/sh", "-c", &script, "sh"]);
    command.arg(ship.get_program()).args(ship.get_args()).env_remove("RUST_LOG");
    let mut daemon = sandbox.start(command);
    sandbox.wait_shipped("good");
    sandbox.wait_quarantined("bad");
    assert!(daemon.terminate().success());
    assert_eq!(daemon.log(), "", "what is in the journal is not on stderr, too");

    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let (mut entries, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(length) = socket.recv(&mut buffer) {
        entries.push(entry(&buffer[..length]));
    }
    let of = |id: &str| -> Vec<_> {
        entries.iter().filter(|entry| entry.get("EPISODE").is_some_and(|episode| episode == id)).collect()
    };
    let [good] = of("good")[..] else { panic!("{:?}", of("good")) };
    assert_eq!(good["VERDICT"], "delivered");
    assert_eq!(good["STATUS_CODE"], "201");
    assert_eq!(good["PRIORITY"], "6");
    assert!(good["BYTES"].parse::<u64>().unwrap() > 0);
    assert!(good["ELAPSED_MS"].parse::<u64>().unwrap() < 60_000);
    // What each step took stands on the one line.
    let steps =
        ["SEEN_MS", "PACKED_MS", "DELIVERED_MS", "ELAPSED_MS"].map(|step| good[step].parse::<u64>().unwrap());
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!((good["ATTEMPT"].as_str(), good.get("OFFSET_BYTES")), ("1", None));
    assert!(good["MESSAGE"].starts_with("shipped good, now in "));
    let [bad] = of("bad")[..] else { panic!("{:?}", of("bad")) };
    assert_eq!((bad["VERDICT"].as_str(), bad["STATUS_CODE"].as_str()), ("fatal", "422"));
    assert_eq!(bad["PRIORITY"], "3");
}

//! What systemd's journal gets, by its own protocol.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::Command,
    time::Duration,
};

use crate::support::{Process, Reply, Sandbox, Scripted, eventually};

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
                let length =
                    usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                let value = String::from_utf8(rest[8..8 + length].to_vec()).unwrap();
                rest = &rest[8 + length + 1..];
                (line, value)
            }
        };
        assert!(fields.insert(name.clone(), value).is_none(), "{name} twice");
    }
    fields
}

/// A daemon whose journal is a socket of ours, which nobody reads from but the test; `None` on a
/// laptop without user namespaces.
fn daemon_with_a_journal(sandbox: &Sandbox) -> Option<(Process, UnixDatagram)> {
    with_a_journal(sandbox, &sandbox.command("ship"))
}

/// The same of any service.
fn with_a_journal(sandbox: &Sandbox, service: &Command) -> Option<(Process, UnixDatagram)> {
    let journal = sandbox.path("journal");
    std::fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    // In a namespace of its own, the journal's socket is ours, and stderr is its stream.
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind {journal:?} /run/systemd/journal \
         && JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\""
    );
    let possible = Command::new("unshare")
        .args(["-Urm", "/bin/sh", "-c", "mount -t tmpfs none /run"])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "no user namespaces here, and CI must have them"
        );
        println!("skipped: no user namespaces here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-Urm", "/bin/sh", "-c", &script, "sh"]);
    command
        .arg(service.get_program())
        .args(service.get_args())
        .env_remove("RUST_LOG");
    Some((sandbox.start(command), socket))
}

/// What has come to the journal. What asks only whether it is there is empty, and no entry.
fn entries(socket: &UnixDatagram) -> Vec<BTreeMap<String, String>> {
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let (mut entries, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(length) = socket.recv(&mut buffer) {
        entries.push(entry(&buffer[..length]));
    }
    entries.retain(|entry| !entry.is_empty());
    entries
}

#[test]
fn under_systemd_an_episode_is_one_entry_of_the_journal_with_its_fields() {
    let server = Scripted::new(|seen, _| match seen.id.as_str() {
        "bad" => Reply::json(
            422,
            &serde_json::json!({"type": "urn:sealift:too-large", "title": "no"}),
        ),
        _ => Reply::stored(seen),
    });
    let sandbox = Sandbox::new(server.url());
    sandbox.seal("good", &[("data.bin", b"recorded")]);
    sandbox.seal("bad", &[]);
    let Some((mut daemon, socket)) = daemon_with_a_journal(&sandbox) else {
        return;
    };
    sandbox.wait_shipped("good");
    sandbox.wait_quarantined("bad");
    assert!(daemon.terminate().success());
    assert_eq!(
        daemon.log(),
        "",
        "what is in the journal is not on stderr, too"
    );

    let entries = entries(&socket);
    let of = |id: &str| -> Vec<_> {
        entries
            .iter()
            .filter(|entry| entry.get("EPISODE").is_some_and(|episode| episode == id))
            .collect()
    };
    let [good] = of("good")[..] else {
        panic!("{:?}", of("good"))
    };
    assert_eq!(good["VERDICT"], "delivered");
    assert_eq!(good["STATUS_CODE"], "201");
    assert_eq!(good["PRIORITY"], "6");
    assert!(good["BYTES"].parse::<u64>().unwrap() > 0);
    assert!(good["ELAPSED_MS"].parse::<u64>().unwrap() < 60_000);
    // What each step took stands on the one line.
    let steps = ["SEEN_MS", "PACKED_MS", "DELIVERED_MS", "ELAPSED_MS"]
        .map(|step| good[step].parse::<u64>().unwrap());
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(
        (good["ATTEMPT"].as_str(), good.get("OFFSET_BYTES")),
        ("1", None)
    );
    assert!(good["MESSAGE"].starts_with("shipped good, now in "));
    let [bad] = of("bad")[..] else {
        panic!("{:?}", of("bad"))
    };
    assert_eq!(
        (bad["VERDICT"].as_str(), bad["STATUS_CODE"].as_str()),
        ("fatal", "422")
    );
    assert_eq!(bad["PRIORITY"], "3");
}

#[test]
fn a_journal_that_hangs_holds_up_no_episode_and_has_every_line_once_when_it_goes_on() {
    let sandbox = Sandbox::with_receiver();
    let Some((mut daemon, socket)) = daemon_with_a_journal(&sandbox) else {
        return;
    };
    // More than the kernel keeps for a reader that does not come (net.unix.max_dgram_qlen,
    // net.core.wmem_default).
    let ids: Vec<_> = (0..600).map(|n| format!("run-{n:03}")).collect();
    for id in &ids {
        sandbox.seal(id, &[]);
    }
    for id in &ids {
        sandbox.wait_shipped(id);
    }
    let shipped = |entries: &[BTreeMap<String, String>]| {
        let of_episodes = entries
            .iter()
            .filter(|entry| entry.get("VERDICT").is_some_and(|is| is == "delivered"));
        of_episodes
            .map(|entry| entry["EPISODE"].clone())
            .collect::<Vec<_>>()
    };
    // So that what is there is what the kernel kept.
    daemon.signal("STOP");
    let mut has = entries(&socket);
    daemon.signal("CONT");
    assert!(
        shipped(&has).len() < ids.len(),
        "the kernel kept them all: {}",
        has.len()
    );
    eventually("the journal has all of them", || {
        has.extend(entries(&socket));
        shipped(&has).len() >= ids.len()
    });
    let mut shipped = shipped(&has);
    shipped.sort();
    assert_eq!(shipped, ids);
    assert!(has[0]["MESSAGE"].starts_with("sealift "), "{:?}", has[0]);
    assert!(
        !has.iter().any(|entry| entry["MESSAGE"].contains("missing")),
        "{has:?}"
    );
    assert!(daemon.terminate().success());
}

#[test]
fn what_a_person_reads_in_the_receivers_journal_names_who_asked_for_what_and_what_came_of_it() {
    let sandbox = Sandbox::new("");
    let mut receive = crate::support::sealift();
    receive
        .args(["receive", "--listen", "127.0.0.1:0", "--store"])
        .arg(sandbox.store());
    let Some((mut receiver, socket)) = with_a_journal(&sandbox, &receive) else {
        return;
    };
    let mut has = Vec::new();
    let mut message = |of: &str| {
        let mut found = None;
        eventually(of, || {
            has.extend(entries(&socket));
            let mut messages = has.iter().filter_map(|entry| entry.get("MESSAGE"));
            found = messages.find(|message| message.starts_with(of)).cloned();
            found.is_some()
        });
        found.unwrap()
    };
    let started = message("receiving at 127.0.0.1:");
    let (address, store) = started.split_once(" into ").unwrap();
    assert_eq!(store, sandbox.store().to_str().unwrap());
    let address = address.rsplit(' ').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let ours = stream.local_addr().unwrap();
    stream
        .write_all(b"GET /v1/episodes/run-7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let request = message("GET /v1/episodes/run-7 ");
    assert_eq!(
        request,
        format!("GET /v1/episodes/run-7 from {ours}: 404, urn:sealift:not-found")
    );
    assert!(receiver.terminate().success());
}

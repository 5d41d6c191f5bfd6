//! Both ends of the recorded wire, each against today's other end.

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, Permissions},
    io::{BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use sealift::model::episode::Digest;
use serde_json::Value;

use super::{
    files::store,
    wire::{Exchange, Response, digest_header, header, length, noise, read_head, recorded, status},
};
use crate::support::{Sandbox, eventually};

const GOOD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// When every recording was made: 2026-11-20T10:00:00Z.
const RECORDED_S: u64 = 1_795_168_800;
const LARGE: usize = (1 << 20) + 4000;

/// Sends what was recorded to a receiver, one after another, and compares.
fn replay(url: &str, names: &[&str]) {
    for name in names {
        // POST creates an upload since then, as PUT does (`receive::resume`).
        for exchange in recorded(name)
            .into_iter()
            .filter(|it| it.method() != "POST")
        {
            let (head, body) = ask(url, &exchange);
            let what = format!("{name}: {}", exchange.line());
            compare(&what, exchange.response.as_ref().unwrap(), &head, &body);
        }
    }
}

fn ask(url: &str, exchange: &Exchange) -> (Vec<String>, Vec<u8>) {
    let mut answered = None;
    // A refusal may come before the body is through, and the receiver waits a second for the rest
    // of it before it closes: on a busy machine the answer may be lost over that, and is asked for
    // again.
    // And a body of which nothing came in time is asked for again, as by a shipper.
    let too_slow = |head: &[String]| {
        status(head) == 408
            && exchange
                .response
                .as_ref()
                .is_none_or(|then| then.status() != 408)
    };
    eventually(exchange.line(), || {
        answered = ask_once(url, exchange)
            .ok()
            .filter(|(head, _)| !too_slow(head));
        answered.is_some()
    });
    answered.unwrap()
}

fn ask_once(url: &str, exchange: &Exchange) -> std::io::Result<(Vec<String>, Vec<u8>)> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = exchange.request.head.join("\r\n");
    head.push_str("\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    if header(&exchange.request.head, "expect").is_some() {
        answer = read_head(&mut reader)?;
        assert_eq!(
            status(&answer) == 100,
            exchange.continued,
            "{}: {answer:?}",
            exchange.line()
        );
    }
    if answer.is_empty() || exchange.continued {
        // Where the connection is closed over the rest of it, the answer may be here all the same.
        let _ = stream.write_all(&exchange.request.body());
        answer = read_head(&mut reader)?;
    }
    let bare = exchange.method() == "HEAD" || status(&answer) == 204;
    let mut body = vec![0; if bare { 0 } else { length(&answer) }];
    reader.read_exact(&mut body)?;
    Ok((answer, body))
}

/// Status and headers as then, and the body but for times and for what is worded for a person; more
/// may be said now.
fn compare(what: &str, then: &Response, head: &[String], body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    assert_eq!(status(head), then.status(), "{what}: {text}");
    // The old receiver said so of few answers only.
    assert_eq!(
        header(head, "cache-control"),
        Some("no-store"),
        "{what}: {head:?}"
    );
    let worded = then.body.is_some();
    for line in &then.head[1..] {
        let (name, value) = line.split_once(": ").unwrap();
        // The address of an upload is that of the Host header, as then.
        if name == "date" || (name == "content-length" && worded) {
            continue;
        }
        assert_eq!(
            header(head, name),
            Some(value),
            "{what}: {name} in {head:?}"
        );
    }
    let Some(old) = &then.body else {
        assert!(then.bytes() == body, "{what}: another body");
        return;
    };
    let Ok(old) = serde_json::from_str::<BTreeMap<String, Value>>(old) else {
        assert!(!body.is_empty(), "{what}");
        return;
    };
    let new: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap();
    for (member, value) in old {
        match member.as_str() {
            "stored_at" => assert!(new["stored_at"].is_string(), "{what}: {text}"),
            "title" | "detail" => assert!(new.contains_key(&member), "{what}: {text}"),
            _ => assert_eq!(new.get(&member), Some(&value), "{what}: {member} in {text}"),
        }
    }
}

#[test]
fn requests_that_the_old_build_answered_are_answered_alike() {
    let mut sandbox = Sandbox::new("");
    sandbox.start_receiver_with(
        "127.0.0.1:0",
        &config(&sandbox, "max_episode_bytes = 1500000\n"),
    );
    replay(
        sandbox.url(),
        &[
            "put",
            "read",
            "resumable",
            "ship",
            "ship-conflict",
            "verify",
            "fetch",
        ],
    );
}

#[test]
fn requests_to_a_receiver_that_asks_who_is_there_are_answered_alike() {
    let mut sandbox = Sandbox::new("");
    sandbox.start_receiver_with("127.0.0.1:0", &closed(&sandbox));
    replay(sandbox.url(), &["who-asks", "who-goes-on"]);
}

#[test]
fn an_upload_that_broke_off_at_the_old_receiver_goes_on_at_the_new_one() {
    let mut sandbox = Sandbox::new("");
    store("none", &sandbox.store());
    sandbox.start_receiver_with(
        "127.0.0.1:0",
        &config(&sandbox, "max_episode_bytes = 1500000\n"),
    );
    replay(sandbox.url(), &["ship-resumed"]);
    for id in ["small", "Lauf%207"] {
        let held: Vec<_> = recorded("read")
            .into_iter()
            .filter(|exchange| exchange.path().ends_with(id))
            .collect();
        assert!(!held.is_empty());
        for exchange in held {
            let (head, body) = ask(sandbox.url(), &exchange);
            compare(id, exchange.response.as_ref().unwrap(), &head, &body);
        }
    }
}

#[test]
fn a_store_that_the_old_receiver_filed_by_host_stays_filed_so() {
    let mut sandbox = Sandbox::new("");
    store("host", &sandbox.store());
    sandbox.start_receiver_with("127.0.0.1:0", &closed(&sandbox));
    // All but what was stored is asked again, and where the upload that was refused goes on.
    for exchange in recorded("who-asks") {
        let response = exchange.response.as_ref().unwrap();
        if exchange.method() != "PUT" {
            let (head, body) = ask(sandbox.url(), &exchange);
            compare(exchange.line(), response, &head, &body);
        }
    }
    let asked = recorded("who-goes-on")
        .into_iter()
        .filter(|exchange| exchange.method() == "HEAD");
    for exchange in asked {
        let (head, body) = ask(sandbox.url(), &exchange);
        compare(
            exchange.line(),
            exchange.response.as_ref().unwrap(),
            &head,
            &body,
        );
    }
    // Filed otherwise it is not opened.
    sandbox.kill_receiver();
    let path = sandbox.path("none.toml");
    fs::write(&path, "[receive]\nnamespace = \"none\"\n").unwrap();
    let mut receive = crate::support::sealift();
    receive
        .args(["receive", "--listen", "127.0.0.1:0", "--store"])
        .arg(sandbox.store());
    let refused = receive.arg("--config").arg(path).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

fn config(sandbox: &Sandbox, receive: &str) -> String {
    let path = sandbox.path("receiver.toml");
    fs::write(&path, format!("[receive]\n{receive}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// As the recorded one was configured.
fn closed(sandbox: &Sandbox) -> String {
    let (tokens, commits) = (sandbox.path("tokens"), sandbox.path("commits"));
    let token = |name: &str| {
        format!(
            "\"{name}\" = \"{}\"\n",
            Digest::of(format!("token-of-{name}").as_bytes())
        )
    };
    fs::write(
        &tokens,
        ["lab-07", "lab-08", "archivist"].map(token).concat(),
    )
    .unwrap();
    fs::write(&commits, format!("{GOOD}\n")).unwrap();
    let receive = format!(
        "namespace = \"host\"\ntokens_file = {tokens:?}\nreaders = [\"archivist\"]\ncommits_file = {commits:?}\n\
         remediation = \"git pull, then restart the recorder\"\nmax_episode_bytes = 1500000\n"
    );
    config(sandbox, &receive)
}

/// Answers as the old receiver did, each recorded answer once.
struct Old {
    address: std::net::SocketAddr,
    left: Arc<Mutex<Vec<Exchange>>>,
}

impl Old {
    fn new(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(Mutex::new(
            names
                .iter()
                .flat_map(|name| recorded(name))
                .collect::<Vec<_>>(),
        ));
        let answers = Arc::clone(&left);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answers = Arc::clone(&answers);
                thread::spawn(move || serve(stream.unwrap(), &answers));
            }
        });
        Self { address, left }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every recorded question was asked.
    #[track_caller]
    fn all_was_asked(&self) {
        eventually("all is over", || self.left.lock().unwrap().is_empty());
    }
}

fn serve(mut stream: TcpStream, answers: &Mutex<Vec<Exchange>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let Ok(head) = read_head(&mut reader) else {
            return;
        };
        let line = &head[0];
        let found = {
            let mut left = answers.lock().unwrap();
            let at = left
                .iter()
                .position(|exchange| is_the_same(line, exchange.line()));
            at.map(|at| left.remove(at))
        };
        let Some(exchange) = found else {
            // What the old build did not ask: it would have been told this by the old receiver.
            let answer = if line.contains(" /v1/admission ") {
                "204 No Content"
            } else {
                "404 Not Found"
            };
            write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            return;
        };
        let asks = header(&head, "expect").is_some();
        if exchange.continued && asks {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
        let mut body = vec![0; exchange.request.cut.unwrap_or_else(|| length(&head))];
        reader.read_exact(&mut body).unwrap();
        let Some(response) = &exchange.response else {
            return;
        };
        let (answer, body) = as_of(&exchange, &head, response);
        stream.write_all(answer.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

/// `PUT /v1/episodes/a HTTP/1.1` against `PUT /v1/episodes/a`; another packing's digest in an
/// upload's address is no difference.
fn is_the_same(line: &str, recorded: &str) -> bool {
    let line = line.trim_end_matches(" HTTP/1.1");
    let without = |line: &str| match line.split_once(" /v1/uploads/") {
        Some((method, rest)) => format!("{method} {}", rest.split('/').next().unwrap()),
        None => line.to_owned(),
    };
    without(line) == without(recorded)
}

/// The recorded answer. Where another zstd packs the episode into other bytes, their digest and
/// length are put in.
fn as_of(exchange: &Exchange, head: &[String], response: &Response) -> (String, Vec<u8>) {
    let mut answer = response.head.join("\r\n");
    let mut body = response.bytes();
    let digest = |head: &[String]| {
        header(head, "repr-digest")
            .and_then(|value| Digest::from_header(value).ok())
            .map(|digest| digest.to_string())
    };
    if let (Some(then), Some(now), Some(text)) =
        (digest(&exchange.request.head), digest(head), &response.body)
        && then != now
    {
        let then_bytes = format!("\"size_bytes\":{}", length(&exchange.request.head));
        let now_bytes = format!("\"size_bytes\":{}", length(head));
        body = text
            .replace(&then, &now)
            .replace(&then_bytes, &now_bytes)
            .into_bytes();
        answer = answer.replace(
            &format!("content-length: {}", text.len()),
            &format!("content-length: {}", body.len()),
        );
    }
    answer.push_str("\r\n\r\n");
    (answer, body)
}

/// An episode as make.py records it.
fn record(sandbox: &Sandbox, id: &str, content: &[u8], commit: Option<&str>) {
    let notes = format!("of {id}\n");
    let meta = commit.map(|commit| format!("{{\"code_version\": {{\"commit\": \"{commit}\"}}}}"));
    let mut files = vec![("data.bin", content), ("sub/notes.txt", notes.as_bytes())];
    if let Some(meta) = &meta {
        files.push(("meta.json", meta.as_bytes()));
    }
    let episode = sandbox.record(id, &files);
    std::os::unix::fs::symlink("../data.bin", episode.join("sub/link")).unwrap();
    let recorded = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(RECORDED_S));
    for (name, _) in &files {
        fs::set_permissions(episode.join(name), Permissions::from_mode(0o644)).unwrap();
        File::options()
            .append(true)
            .open(episode.join(name))
            .unwrap()
            .set_times(recorded)
            .unwrap();
    }
    rustix::fs::utimensat(
        rustix::fs::CWD,
        episode.join("sub/link"),
        &rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: RECORDED_S.cast_signed(),
                tv_nsec: 0,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: RECORDED_S.cast_signed(),
                tv_nsec: 0,
            },
        },
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    for folder in [episode.join("sub"), episode.clone()] {
        fs::set_permissions(folder, Permissions::from_mode(0o2775)).unwrap();
    }
    fs::write(episode.join("done.marker"), b"").unwrap();
    fs::set_permissions(episode.join("done.marker"), Permissions::from_mode(0o644)).unwrap();
}

/// `sealift COMMAND` to the old receiver, with the name that it knows the host by; the exit code.
fn run(sandbox: &Sandbox, old: &Old, command: &[&str]) -> i32 {
    let path = sandbox.path("shipper.toml");
    fs::write(&path, "[shipper]\nhost_id = \"lab-07\"\n").unwrap();
    let mut sealift = crate::support::sealift();
    sealift
        .args(command)
        .args(["--receiver", &old.url(), "--data"])
        .arg(sandbox.data())
        .arg("--config")
        .arg(path);
    let told = sealift.output().unwrap();
    println!(
        "{command:?}: {}{}",
        String::from_utf8_lossy(&told.stdout),
        String::from_utf8_lossy(&told.stderr)
    );
    told.status.code().unwrap()
}

#[test]
fn the_new_shipper_delivers_verifies_and_fetches_with_the_old_receiver() {
    let old = Old::new(&["ship", "ship-conflict", "verify", "fetch"]);
    let sandbox = Sandbox::new("");
    record(&sandbox, "shipped-small", b"recorded\n", Some(GOOD));
    record(&sandbox, "shipped-large", &noise(LARGE), None);
    assert_eq!(run(&sandbox, &old, &["ship", "--once"]), 0);
    record(&sandbox, "small", b"recorded\n", None);
    assert_eq!(run(&sandbox, &old, &["ship", "--once"]), 1);
    assert!(
        sandbox.layout.episodes.join("small").exists(),
        "a conflict stays"
    );
    assert!(
        fs::read_to_string(sandbox.layout.outbox.join("small.json"))
            .unwrap()
            .contains("conflict")
    );

    let sent = recorded("ship");
    let as_then = sent.iter().all(|exchange| {
        let id = exchange.path().rsplit('/').next().unwrap();
        let receipt = crate::support::json_file(&sandbox.shipped(id).join("shipping_receipt.json"));
        let digest = header(&exchange.request.head, "repr-digest").unwrap();
        digest_header(&exchange.request.body()) == digest
            && Digest::from_header(digest).unwrap().to_string() == receipt["sha256"]
    });
    if as_then {
        assert_eq!(run(&sandbox, &old, &["verify", "--all"]), 0);
        assert_eq!(
            run(&sandbox, &old, &["verify", "--deep", "shipped-small"]),
            0
        );
        let to = sandbox.path("back");
        fs::create_dir(&to).unwrap();
        assert_eq!(
            run(
                &sandbox,
                &old,
                &["fetch", "shipped-small", "--to", to.to_str().unwrap()]
            ),
            0
        );
        assert_eq!(
            fs::read(to.join("shipped-small/data.bin")).unwrap(),
            b"recorded\n"
        );
        old.all_was_asked();
    } else {
        println!("another zstd packs other bytes: what the old receiver holds cannot be compared");
    }
}

#[test]
fn the_new_shipper_goes_on_with_an_upload_that_broke_off_at_the_old_receiver() {
    let old = Old::new(&["ship-broken-off"]);
    let sandbox = Sandbox::new("");
    record(&sandbox, "broken-off", &noise(LARGE), None);
    assert_eq!(run(&sandbox, &old, &["ship", "--once"]), 1);
    old.all_was_asked();
    let old = Old::new(&["ship-resumed"]);
    assert_eq!(run(&sandbox, &old, &["ship", "--once"]), 0);
    old.all_was_asked();
    assert!(
        sandbox
            .shipped("broken-off")
            .join("shipping_receipt.json")
            .exists()
    );
}

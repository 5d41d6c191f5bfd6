//! A receiver that holds archives, by script: it breaks off, forgets, exchanges and damages on
//! demand.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use sealift::model::episode::Digest;

/// One answer.
#[derive(Clone, Default)]
pub(super) struct Served {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// After so many bytes of the body nothing comes any more.
    pub(super) stops_after: Option<usize>,
    /// And then the connection is closed; else it is held open.
    pub(super) closes: bool,
}

impl Served {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(has, _)| !has.eq_ignore_ascii_case(name));
        self
    }

    /// The connection breaks after so many bytes of the body.
    pub(super) fn cut_after(self, bytes: usize) -> Self {
        Self {
            stops_after: Some(bytes),
            closes: true,
            ..self
        }
    }

    /// Nothing comes after so many bytes of the body, and the connection stays open.
    pub(super) fn silent_after(self, bytes: usize) -> Self {
        Self {
            stops_after: Some(bytes),
            closes: false,
            ..self
        }
    }
}

/// An archive, whole.
pub(super) fn whole(archive: &[u8]) -> Served {
    let content = zstd::decode_all(archive).map(|tar| Digest::of(&tar));
    let mut served = Served::status(200)
        .header("Content-Type", "application/zstd")
        .header("Repr-Digest", Digest::of(archive).to_header());
    if let Ok(content) = content {
        served = served.header("Sealift-Content-Digest", content.to_header());
    }
    served.body = archive.to_vec();
    served
}

/// An archive, or the rest of it that the request asks for.
pub(super) fn ranged(head: &str, archive: &[u8]) -> Served {
    let Some(offset) = offset(head) else {
        return whole(archive);
    };
    let len = archive.len();
    let mut served = whole(archive).header(
        "Content-Range",
        format!("bytes {offset}-{}/{len}", len.saturating_sub(1)),
    );
    served.status = 206;
    served.body.drain(..offset);
    served
}

/// The first byte that a request asks for; `None` where it asks for the whole.
pub(super) fn offset(head: &str) -> Option<usize> {
    let range = header(head, "range")?;
    Some(
        range
            .strip_prefix("bytes=")
            .unwrap()
            .strip_suffix('-')
            .unwrap()
            .parse()
            .unwrap(),
    )
}

/// A header's value.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The server. It remembers the heads that it saw.
pub(super) struct Holder {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Holder {
    /// `script` gets each request's head, and how many came before it.
    pub(super) fn new(script: impl Fn(&str, usize) -> Served + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&heads));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                // A client that hangs up ends its thread with an error: nobody's concern.
                thread::spawn(move || serve(stream.unwrap(), &*script, &log));
            }
        });
        Self { address, heads }
    }

    /// Always the same archive, ranges honoured.
    pub(super) fn of(archive: Vec<u8>) -> Self {
        Self::new(move |head, _| ranged(head, &archive))
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// From which bytes on it was asked, in order.
    pub(super) fn offsets(&self) -> Vec<Option<usize>> {
        self.heads().iter().map(|head| offset(head)).collect()
    }
}

fn serve(
    stream: TcpStream,
    script: &(impl Fn(&str, usize) -> Served + Send + Sync),
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let count = {
            let mut log = log.lock().unwrap();
            log.push(head.clone());
            log.len() - 1
        };
        let served = script(&head, count);
        let mut answer = format!("HTTP/1.1 {} Scripted\r\n", served.status);
        if !served
            .headers
            .iter()
            .any(|(name, _)| name == "Transfer-Encoding")
        {
            answer += &format!("Content-Length: {}\r\n", served.body.len());
        }
        for (name, value) in &served.headers {
            answer += &format!("{name}: {value}\r\n");
        }
        writer.write_all(format!("{answer}\r\n").as_bytes())?;
        writer.write_all(&served.body[..served.stops_after.unwrap_or(served.body.len())])?;
        writer.flush()?;
        if served.stops_after.is_some() {
            if served.closes {
                return Ok(());
            }
            // Until the client has gone.
            while reader.read_line(&mut head)? > 0 {}
            return Ok(());
        }
    }
}

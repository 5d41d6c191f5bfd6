//! The other end of the wire, by script: raw bytes on a real socket.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// One connection, as a script sees it.
pub(super) struct Peer<S = TcpStream> {
    pub(super) stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The next request's head; `None` once the client has closed.
    pub(super) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap().to_ascii_lowercase());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// So many bytes of a body.
    pub(super) async fn body(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len && self.more().await {}
        self.buffer.drain(..len.min(self.buffer.len())).collect()
    }

    /// A request with its body, as the head says its length.
    pub(super) async fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head().await?;
        let len = header(&head, "content-length").map_or(0, |len| len.parse().unwrap());
        if header(&head, "expect").is_some() {
            self.say("HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let body = self.body(len).await;
        Some((head, body))
    }

    pub(super) async fn say(&mut self, text: &str) {
        // A client that has gone is what some scripts are about.
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// An answer with a body.
    pub(super) async fn answer(&mut self, status: &str, media_type: &str, body: &str) {
        let len = body.len();
        self.say(&format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Waits until the client has closed, and says how much came until then.
    pub(super) async fn drain(&mut self) -> usize {
        while self.more().await {}
        self.buffer.len()
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }
}

/// The value of a header in a lower-cased head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A server that runs one script a connection. Ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(super) async fn new<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::raw(move |stream| script(Peer::new(stream))).await
    }

    pub(super) async fn raw<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream));
            }
        });
        Self {
            address,
            connections,
            accepting,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many were accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The client's sockets to this server that somebody still holds (proc_net_tcp(5): the inode of
    /// an orphan is 0).
    pub(super) fn open_sockets_of_the_client(&self) -> usize {
        let port = format!(":{:04X}", self.address.port());
        std::fs::read_to_string("/proc/self/net/tcp")
            .unwrap()
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields[2].ends_with(&port) && fields[9] != "0")
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

//! A TCP proxy between a client and a MySQL server that fails on command. It refuses connections, cuts them, stops forwarding, or loses
//! single statements or their replies.
//!
//! It reads the packets of the MySQL protocol (uncompressed and without TLS) and knows which statement the number of a prepared statement
//! means. So a test can lose the reply to "an `UPDATE`" and to nothing else.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait::{pause, wait_until};

const COM_QUERY: u8 = 0x03;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
/// A statement number that no connection reaches. (MariaDB reads the largest number of all as "the last statement".)
const UNKNOWN_STATEMENT: u32 = 0x7fff_fff0;

/// Longest wait for a statement.
const STATEMENT_WAIT_MAX: Duration = Duration::from_secs(60);

/// A proxy; dropping it closes its port and all its connections.
pub struct ChaosProxy {
    port: u16,
    upstream_port: u16,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// The fault injected into the statements that a [`Disturbance`] selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server receives the statement and answers. The answer is dropped and the link is cut.
    Reply,
    /// The server receives the statement and answers. The answer is dropped and the link stays open and silent forever.
    ReplyNever,
    /// The server never receives the statement; the link is cut.
    Request,
    /// The server receives the statement after this time, when the client may long have given up.
    Late(Duration),
    /// The server is asked for a prepared statement that it does not know, as after a proxy switched to another connection.
    Forgotten,
    /// The server receives nothing. The client receives the error that its account lacks the privilege (1227).
    Denied,
    /// The server receives nothing. The client is asked for this file, as a server does in answer to `LOAD DATA LOCAL INFILE`.
    AsksForFile(&'static str),
}

/// The statements to disturb, and the fault to inject.
#[derive(Clone, Debug)]
pub struct Disturbance {
    /// The fault to inject.
    pub loss: Loss,
    /// The prefix of the statements to disturb, ignoring case: `"UPDATE"`. An empty prefix selects all statements.
    pub prefix: String,
    /// The interval of disturbed statements: 1 for all of them, 3 for every third.
    pub every: u32,
    /// The number of statements to disturb in all.
    pub times: u32,
}

struct Shared {
    link: watch::Sender<Link>,
    script: Mutex<Script>,
    disturbances: AtomicU32,
    losses: AtomicU32,
    files_received: Mutex<Vec<u8>>,
}

/// The state of all connections.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link {
    is_forwarding: bool,
    /// A connection closes when this differs from the generation in which it was accepted.
    generation: u64,
}

#[derive(Default)]
struct Script {
    disturbance: Option<Disturbance>,
    seen: u32,
}

/// State shared by both directions of one connection.
#[derive(Default)]
struct Dialogue {
    preparing: Option<String>,
    statements: HashMap<u32, String>,
    is_next_reply_lost: bool,
    is_silent: bool,
}

impl ChaosProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `upstream_port` there.
    pub async fn to_port(upstream_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a loopback port is free");
        let proxy = Self {
            port: listener.local_addr().expect("it is bound").port(),
            upstream_port,
            shared: Arc::new(Shared {
                link: watch::Sender::new(Link {
                    is_forwarding: true,
                    generation: 0,
                }),
                script: Mutex::default(),
                disturbances: AtomicU32::new(0),
                losses: AtomicU32::new(0),
                files_received: Mutex::default(),
            }),
            acceptor: Mutex::new(None),
        };
        proxy.accept(listener);
        proxy
    }

    /// Returns the port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards again after [`Self::refuse`] or [`Self::blackhole`]. Bytes that were held back are forwarded.
    pub async fn forward(&self) {
        let is_refusing = self.lock_acceptor().is_none();
        if is_refusing {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
            self.accept(listener.expect("the proxy's port is still free"));
        }
        self.shared.link.send_modify(|l| l.is_forwarding = true);
    }

    /// Cuts all connections and refuses new ones.
    pub async fn refuse(&self) {
        let acceptor = self.lock_acceptor().take();
        if let Some(acceptor) = acceptor {
            acceptor.abort();
            // The task ends by the abort, which closes the listener.
            let _ = acceptor.await;
        }
        self.cut();
    }

    /// Cuts all connections; new connections are served.
    pub fn cut(&self) {
        self.shared.link.send_modify(|l| l.generation += 1);
    }

    /// Stops forwarding in both directions. Connections stay open and new ones are accepted, but no byte is forwarded.
    pub fn blackhole(&self) {
        self.shared.link.send_modify(|l| l.is_forwarding = false);
    }

    /// Starts to disturb statements and replaces the previous disturbance.
    pub fn disturb(&self, disturbance: Disturbance) {
        *self.shared.lock_script() = Script {
            disturbance: Some(disturbance),
            seen: 0,
        };
    }

    /// Loses the reply to the next statement that begins with `prefix`.
    pub fn lose_next_reply(&self, prefix: &str) {
        self.disturb(Disturbance {
            loss: Loss::Reply,
            prefix: prefix.to_owned(),
            every: 1,
            times: 1,
        });
    }

    /// Stops disturbing statements.
    pub fn calm(&self) {
        *self.shared.lock_script() = Script::default();
    }

    /// Returns the number of statements disturbed so far.
    pub fn losses(&self) -> u32 {
        self.shared.losses.load(Ordering::SeqCst)
    }

    /// Waits until at least `count` statements were disturbed. For [`Loss::Late`], waits until the server received them.
    ///
    /// # Panics
    /// After a minute without that.
    pub async fn wait_for_losses(&self, count: u32) {
        let what = format!("{count} statements were disturbed");
        wait_until(&what, STATEMENT_WAIT_MAX, async || {
            ensure!(self.losses() >= count);
            Ok(())
        })
        .await;
    }

    /// Returns the number of statements selected so far for a fault. For [`Loss::Late`], this counts a statement when the proxy begins to
    /// hold it.
    pub fn disturbances(&self) -> u32 {
        self.shared.disturbances.load(Ordering::SeqCst)
    }

    /// Waits until at least `count` statements were selected for a fault.
    ///
    /// # Panics
    /// After a minute without that.
    pub async fn wait_for_disturbances(&self, count: u32) {
        let what = format!("{count} statements were selected");
        wait_until(&what, STATEMENT_WAIT_MAX, async || {
            ensure!(self.disturbances() >= count);
            Ok(())
        })
        .await;
    }

    /// Returns the bytes that clients have sent of the files that they were asked for.
    pub fn files_received(&self) -> Vec<u8> {
        let received = self.shared.files_received.lock();
        received.expect("no panic holds it").clone()
    }

    fn accept(&self, listener: TcpListener) {
        let (shared, upstream_port) = (self.shared.clone(), self.upstream_port);
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream_port, shared.clone()));
            }
        });
        *self.lock_acceptor() = Some(acceptor);
    }

    fn lock_acceptor(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.acceptor.lock().expect("no panic holds it")
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        if let Ok(Some(acceptor)) = self.acceptor.get_mut() {
            acceptor.abort();
        }
        self.cut();
    }
}

impl Shared {
    fn lock_script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no panic holds it")
    }

    /// Returns the fault to inject into this statement, if any, and counts the statement.
    fn disturb(&self, statement: &str) -> Option<Loss> {
        let mut script = self.lock_script();
        let Script { disturbance, seen } = &mut *script;
        let disturbance = disturbance.as_mut()?;
        let is_meant = statement
            .trim_start()
            .get(..disturbance.prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(&disturbance.prefix));
        if !is_meant || disturbance.times == 0 {
            return None;
        }
        *seen += 1;
        if *seen % disturbance.every != 0 {
            return None;
        }
        disturbance.times -= 1;
        self.disturbances.fetch_add(1, Ordering::SeqCst);
        Some(disturbance.loss)
    }

    fn count_loss(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }

    async fn wait_until_forwarding(&self) {
        let mut link = self.link.subscribe();
        // The sender lives in `self`, so this returns only when the link is forwarding.
        let _ = link.wait_for(|l| l.is_forwarding).await;
    }
}

/// Serves one connection. Returns, and closes both sockets, when either side closes, when the connection is cut, or after a loss.
async fn serve(client: TcpStream, upstream_port: u16, shared: Arc<Shared>) {
    let mut link = shared.link.subscribe();
    let generation = link.borrow_and_update().generation;
    let forward = async {
        shared.wait_until_forwarding().await;
        let server = TcpStream::connect(("127.0.0.1", upstream_port)).await?;
        // A failure only costs time.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let to_client = tokio::sync::Mutex::new(to_client);
        let dialogue = Mutex::default();
        tokio::select! {
            ended = forward_requests(from_client, to_server, &to_client, &dialogue, &shared) => ended,
            ended = forward_replies(from_server, &to_client, &dialogue, &shared) => ended,
        }
    };
    tokio::select! {
        // In both cases the sockets are closed, and both peers notice.
        _ = forward => {}
        _ = link.wait_for(|l| l.generation != generation) => {}
    }
}

async fn forward_requests(
    from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    to_client: &tokio::sync::Mutex<OwnedWriteHalf>,
    dialogue: &Mutex<Dialogue>,
    shared: &Shared,
) -> io::Result<()> {
    let mut from_client = BufReader::new(from_client);
    loop {
        let mut packet = read_packet(&mut from_client).await?;
        shared.wait_until_forwarding().await;
        let statement = statement_of(&packet, &mut lock(dialogue));
        match statement.and_then(|s| shared.disturb(&s)) {
            None => to_server.write_all(&packet).await?,
            Some(loss @ (Loss::Reply | Loss::ReplyNever)) => {
                {
                    let mut dialogue = lock(dialogue);
                    dialogue.is_next_reply_lost = loss == Loss::Reply;
                    dialogue.is_silent = loss == Loss::ReplyNever;
                }
                to_server.write_all(&packet).await?;
            }
            Some(Loss::Request) => {
                shared.count_loss();
                return Ok(());
            }
            Some(Loss::Forgotten) => {
                assert_eq!(
                    packet[4], COM_STMT_EXECUTE,
                    "only prepared statements can be forgotten"
                );
                packet[5..9].copy_from_slice(&UNKNOWN_STATEMENT.to_le_bytes());
                shared.count_loss();
                to_server.write_all(&packet).await?;
            }
            Some(Loss::Denied) => {
                to_client.lock().await.write_all(&denial()).await?;
                shared.count_loss();
            }
            Some(Loss::AsksForFile(path)) => {
                to_client.lock().await.write_all(&wish_for(path)).await?;
                shared.count_loss();
                return take_file(&mut from_client, shared).await;
            }
            Some(Loss::Late(delay)) => {
                pause(delay, "the statement is late").await;
                to_server.write_all(&packet).await?;
                shared.count_loss();
            }
        }
    }
}

async fn forward_replies(
    from_server: OwnedReadHalf,
    to_client: &tokio::sync::Mutex<OwnedWriteHalf>,
    dialogue: &Mutex<Dialogue>,
    shared: &Shared,
) -> io::Result<()> {
    let mut from_server = BufReader::new(from_server);
    loop {
        let packet = read_packet(&mut from_server).await?;
        shared.wait_until_forwarding().await;
        let (is_lost, is_silent) = {
            let mut dialogue = lock(dialogue);
            note_prepared(&packet, &mut dialogue);
            (dialogue.is_next_reply_lost, dialogue.is_silent)
        };
        if is_silent {
            shared.count_loss();
            continue;
        }
        if is_lost {
            shared.count_loss();
            return Ok(());
        }
        to_client.lock().await.write_all(&packet).await?;
    }
}

fn lock(dialogue: &Mutex<Dialogue>) -> MutexGuard<'_, Dialogue> {
    dialogue.lock().expect("no panic holds it")
}

/// Returns the error packet for a statement that the account may not run.
fn denial() -> Vec<u8> {
    let text = b"#42000Access denied; you need (at least one of) the SUPER privilege(s) for this operation";
    let code = 1227_u16.to_le_bytes();
    let bytes = u8::try_from(1 + code.len() + text.len()).expect("a short text");
    [&[bytes, 0, 0, 1, 0xff][..], &code, text].concat()
}

/// Returns the packet by which a server asks the client for a file.
fn wish_for(path: &str) -> Vec<u8> {
    let bytes = u8::try_from(1 + path.len()).expect("a short path");
    let mut packet = vec![bytes, 0, 0, 1, 0xfb];
    packet.extend(path.as_bytes());
    packet
}

/// Records the content that the client sends of a file: packets until an empty one.
async fn take_file(from_client: &mut BufReader<OwnedReadHalf>, shared: &Shared) -> io::Result<()> {
    loop {
        let packet = read_packet(from_client).await?;
        // An empty packet ends the file, also when the client sends none. A packet with number 0 starts a new command.
        if packet.len() == 4 || packet[3] == 0 {
            return Ok(());
        }
        let mut received = shared.files_received.lock().expect("no panic holds it");
        received.extend(&packet[4..]);
    }
}

/// Reads one packet of the protocol, including its four bytes of header.
async fn read_packet<R: tokio::io::AsyncRead + Unpin>(from: &mut R) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet).await?;
    let payload_bytes = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + payload_bytes as usize, 0);
    from.read_exact(&mut packet[4..]).await?;
    Ok(packet)
}

/// Returns the text of the statement that this packet runs. Remembers the text of a statement that it prepares.
fn statement_of(packet: &[u8], dialogue: &mut Dialogue) -> Option<String> {
    // A command starts an exchange with number 0. Every later packet of the exchange, and of the handshake, has a higher number.
    if packet[3] != 0 {
        return None;
    }
    let (command, body) = packet[4..].split_first()?;
    match *command {
        COM_QUERY => Some(String::from_utf8_lossy(body).into_owned()),
        COM_STMT_PREPARE => {
            dialogue.preparing = Some(String::from_utf8_lossy(body).into_owned());
            None
        }
        COM_STMT_EXECUTE => {
            let number = u32::from_le_bytes(*body.first_chunk()?);
            dialogue.statements.get(&number).cloned()
        }
        _ => None,
    }
}

/// Stores the number of a prepared statement from the server's answer.
fn note_prepared(packet: &[u8], dialogue: &mut Dialogue) {
    let Some(text) = dialogue.preparing.take() else {
        return;
    };
    if let Some([0, number @ ..]) = packet.get(4..9) {
        let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
        dialogue.statements.insert(number, text);
    }
}

//! Slow uploads of components do not block other uploads.

use std::time::Duration;

use cloakroom_tests::admin::Operator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{HELLO, hello, other};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_stall_keep_no_other_from_the_host() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let address = operator.url.strip_prefix("http://").unwrap();
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut link = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /guests/{HELLO} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100000\r\n\r\n\0asm"
        );
        link.write_all(head.as_bytes()).await.unwrap();
        stalled.push(link);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;

    let answer = operator.put(HELLO, other()).await;

    assert_eq!(answer.status, 201, "{}", answer.text);
    // Each stalled upload times out.
    for mut link in stalled {
        let mut answer = [0; 12];
        link.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    }
}

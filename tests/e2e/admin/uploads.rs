//! Slow uploads of components do not block other uploads.

use cloakroom_tests::admin::Operator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{HELLO, hello, other};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_uploads_do_not_block_another_upload() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let address = operator.url.strip_prefix("http://").unwrap();
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut link = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "PUT /guests/{HELLO} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 100000\r\nexpect: 100-continue\r\n\r\n\0asm"
        );
        link.write_all(head.as_bytes()).await.unwrap();
        // The host sends this when it begins to read the body.
        let mut go_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        link.read_exact(&mut go_on).await.unwrap();
        assert!(go_on.starts_with(b"HTTP/1.1 100 "));
        stalled.push(link);
    }

    let answer = operator.put(HELLO, other()).await;

    assert_eq!(answer.status, 201, "{}", answer.text);
    // Each stalled upload times out.
    for mut link in stalled {
        let mut answer = [0; 12];
        link.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    }
}

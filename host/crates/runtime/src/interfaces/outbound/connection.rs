//! An open connection to another server, and the task that moves its bytes.

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::rt::{Read, Write};
use tokio::task::JoinHandle;
use wasmtime_wasi_http::{Error, WasiBody};

/// A connection, which serves one request at a time. Dropping it closes it.
pub(crate) struct OutboundConnection {
    pub(crate) sender: SendRequest<WasiBody>,
    driver: ConnectionDriver,
}

/// The task that moves a connection's bytes. Dropping it aborts the task.
struct ConnectionDriver(JoinHandle<hyper::Result<()>>);

impl Drop for ConnectionDriver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl OutboundConnection {
    /// Starts the task that moves the bytes of a connection.
    pub(crate) fn new<T>(sender: SendRequest<WasiBody>, connection: Connection<T, WasiBody>) -> Self
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let driver = ConnectionDriver(tokio::spawn(connection));
        Self { sender, driver }
    }

    /// Returns whether the connection can take a request.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until the connection can take another request.
    ///
    /// # Errors
    /// Returns an error if it never can, with the reason if there is one.
    pub(crate) async fn again(&mut self) -> Result<(), Option<Error>> {
        if self.sender.ready().await.is_ok() {
            return Ok(());
        }
        match (&mut self.driver.0).await {
            Ok(Err(error)) => Err(Some(error.into())),
            Ok(Ok(())) | Err(_) => Err(None),
        }
    }
}

//! A visitor: an HTTP client that keeps cookies as a browser does and does not follow redirects.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::{CONTENT_TYPE, HeaderMap, SET_COOKIE};
use reqwest::{Client, ClientBuilder, Method, Url};

/// One visitor with a cookie jar of its own.
#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    jar: Arc<Jar>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Answer {
    async fn read(response: reqwest::Response) -> Result<Self, reqwest::Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self {
            status,
            headers,
            text: response.text().await?,
        })
    }

    /// Returns a header field's value, if the field was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|v| v.to_str().expect("a printable header"))
    }

    /// Returns every `Set-Cookie` field, in order.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|v| v.to_str().expect("a printable cookie"))
            .collect()
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl Browser {
    /// Returns a visitor without cookies.
    pub fn new() -> Self {
        Self::built(|builder| builder)
    }

    /// Returns a visitor at this local address, which keeps its connection open or opens a new one for each request.
    pub fn at(address: IpAddr, is_kept: bool) -> Self {
        Self::built(|builder| {
            let idle_max = if is_kept { 1 } else { 0 };
            builder
                .local_address(address)
                .pool_max_idle_per_host(idle_max)
        })
    }

    /// Returns a visitor that resolves all these host names to one address.
    pub fn resolving(hosts: &[&str], address: SocketAddr) -> Self {
        Self::built(|builder| {
            let resolve = |builder: ClientBuilder, host: &&str| builder.resolve(host, address);
            hosts.iter().fold(builder, resolve)
        })
    }

    fn built(with: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let jar = Arc::new(Jar::default());
        let builder = Client::builder()
            .cookie_provider(Arc::clone(&jar))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let client = with(builder)
            .build()
            .expect("a client without TLS always builds");
        Self { client, jar }
    }

    /// Returns a visitor whose jar already holds `cookie` (`name=value`) for `url`'s host.
    pub fn with_cookie(url: &str, cookie: &str) -> Self {
        let browser = Self::new();
        browser.keep(url, cookie);
        browser
    }

    /// Puts `cookie` (`name=value`) for `url`'s host into the jar.
    pub fn keep(&self, url: &str, cookie: &str) {
        let url = Url::parse(url).expect("a URL");
        self.jar.add_cookie_str(cookie, &url);
    }

    /// Returns the cookies that the jar would send to `url`: `name=value; ...`.
    pub fn cookies(&self, url: &str) -> Option<String> {
        let header = self.jar.cookies(&Url::parse(url).expect("a URL"))?;
        Some(header.to_str().expect("a printable cookie").to_owned())
    }

    /// GETs `url`.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn get(&self, url: &str) -> Answer {
        self.try_send(Method::GET, url, "")
            .await
            .expect("an answer")
    }

    /// POSTs `body` to `url`.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn post(&self, url: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.try_send(Method::POST, url, body)
            .await
            .expect("an answer")
    }

    /// Sends `body` to `url` with this `Content-Type`.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.request(method, url).body(body);
        let response = request.header(CONTENT_TYPE, content_type).send().await;
        Answer::read(response.expect("an answer"))
            .await
            .expect("a whole answer")
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection breaks, also while the body is read.
    pub async fn try_send(
        &self,
        method: Method,
        url: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(method.clone(), url);
        if method != Method::GET {
            request = request.body(body);
        }
        Answer::read(request.send().await?).await
    }
}

//! A visitor: an HTTP client that keeps cookies as a browser does and follows no redirect by itself.

use std::sync::Arc;

use reqwest::cookie::{CookieStore, Jar};
use reqwest::header::{CONTENT_TYPE, HeaderMap, SET_COOKIE};
use reqwest::{Client, Method, Url};

/// One visitor with a cookie jar of its own.
#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    jar: Arc<Jar>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body as text.
    pub text: String,
}

impl Answer {
    /// A header field's value, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|v| v.to_str().expect("a printable header"))
    }

    /// Every `Set-Cookie` field, in order.
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
    /// A visitor who was never here.
    pub fn new() -> Self {
        let jar = Arc::new(Jar::default());
        let client = Client::builder()
            .cookie_provider(Arc::clone(&jar))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client without TLS always builds");
        Self { client, jar }
    }

    /// A visitor whose jar already holds `cookie` (`name=value`) for `url`'s host.
    pub fn with_cookie(url: &str, cookie: &str) -> Self {
        let browser = Self::new();
        browser
            .jar
            .add_cookie_str(cookie, &Url::parse(url).expect("a URL"));
        browser
    }

    /// What the jar would send to `url`: `name=value; ...`.
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

    /// Sends a body of a media type to `url`.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn send_as(
        &self,
        method: Method,
        url: &str,
        media_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.request(method, url);
        let answer = read(request.header(CONTENT_TYPE, media_type).body(body)).await;
        answer.expect("an answer")
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the connection breaks, in the body too.
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
        read(request).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer {
        status,
        headers,
        text: response.text().await?,
    })
}

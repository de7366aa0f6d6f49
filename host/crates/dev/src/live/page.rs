//! The page served in place of a guest that is being built or cannot serve. It is self-contained: it loads nothing, and a short
//! script polls whether the page is out of date.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, UNIX_EPOCH};

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::build::without_colours;
use cloakroom_base::telemetry::escape_lines;

/// The header field that marks a poll of a page. In responses it names the current page.
pub(crate) const STAMP: &str = "x-cloakroom-dev";

/// The content of a page that is served in place of a guest.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct NoticePage {
    /// A short fixed name for the log.
    pub(crate) kind: &'static str,
    /// Whether the state ends without an action of the developer.
    pub(crate) passing: PageRefresh,
    /// A one-line description.
    pub(crate) title: String,
    /// The recommended action, if one is known.
    pub(crate) advice: Option<String>,
    /// The output of the build command.
    pub(crate) output: String,
    /// The start of the state, in milliseconds since the epoch.
    pub(crate) since_ms: i64,
}

/// Whether a state ends without an action of the developer.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum PageRefresh {
    /// It does. The response status is 503.
    ByItself,
    /// The developer has to correct something. The response status is 500.
    WhenFixed,
}

impl NoticePage {
    /// Returns the response to a request with this method and these header fields.
    pub(crate) fn answer(&self, method: &Method, headers: &HeaderMap) -> Response<String> {
        let (kind, text) = if wants_html(headers) {
            ("text/html; charset=utf-8", self.html(method))
        } else {
            ("text/plain; charset=utf-8", self.text())
        };
        let mut response = Response::new(text);
        *response.status_mut() = match self.passing {
            PageRefresh::ByItself => StatusCode::SERVICE_UNAVAILABLE,
            PageRefresh::WhenFixed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        if let Some(advice) = &self.advice {
            text += &format!("{advice}\n");
        }
        if !self.output.is_empty() {
            text += &format!("\n{}\n", without_colours(&self.output));
        }
        text += &format!("\nSince {}.\n", self.since());
        // The text is read mainly in terminals.
        escape_lines(&text).into_owned()
    }

    fn html(&self, method: &Method) -> String {
        let advice = self
            .advice
            .iter()
            .map(|advice| format!("<p><b>{}</b></p>\n", escaped(advice)));
        let output = match self.output.as_str() {
            "" => String::new(),
            output => format!("<pre>{}</pre>\n", escaped(&without_colours(output))),
        };
        // A script must not repeat a request that submits a form.
        let (script, hint) = if *method == Method::GET {
            let script = SCRIPT
                .replace("STAMP", &format!("{STAMP:?}"))
                .replace("MINE", &format!("{:?}", self.stamp()));
            (
                format!("<script>{script}</script>\n"),
                "This page reloads itself when that changes.",
            )
        } else {
            (
                String::new(),
                "Send the request again when that has changed.",
            )
        };
        let title = escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style>\n\
             <h1>{title}</h1>\n{}{output}<p>Since <time>{}</time>. {hint}</p>\n{script}</html>\n",
            advice.collect::<String>(),
            self.since(),
        )
    }

    fn since(&self) -> String {
        let since_ms = u64::try_from(self.since_ms).unwrap_or(0);
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(since_ms))
    }

    /// Returns a value that identifies this notice.
    pub(crate) fn stamp(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Returns whether the request is a poll of a page.
pub(crate) fn is_poll(headers: &HeaderMap) -> bool {
    headers.contains_key(STAMP)
}

/// Returns the response to a poll: the stamp of the current notice, or `none`.
pub(crate) fn poll_response(notice: Option<&NoticePage>) -> Response<String> {
    let mut response = Response::new(String::new());
    let stamp = notice.map_or_else(|| "none".to_owned(), NoticePage::stamp);
    if let Ok(stamp) = HeaderValue::from_str(&stamp) {
        response.headers_mut().insert(STAMP, stamp);
    }
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// Polls the URL of the page, with a field that keeps the request from reaching the guest, until the response names another
/// page.
const SCRIPT: &str = "\
(async () => {
  for (;;) {
    await new Promise(done => setTimeout(done, 300));
    try {
      const news = await fetch(location.href, { headers: { [STAMP]: MINE }, cache: 'no-store' });
      if (news.headers.get(STAMP) !== MINE) { location.reload(); return; }
    } catch { /* the host is being restarted */ }
  }
})();
";

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}\
h1{font-size:1.3rem}pre{overflow-x:auto;padding:1rem;border:1px solid #8888;border-radius:4px;font-size:14px}";

/// Returns whether the client is a browser, which lists the type explicitly. Other clients get plain text.
fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains("text/html"))
    })
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> NoticePage {
        NoticePage {
            kind: "build-failed",
            passing: PageRefresh::WhenFixed,
            title: "hello: `npm run build` failed".to_owned(),
            advice: Some("install Node.js".to_owned()),
            output: "\u{1b}[31mapp.js:3\u{1b}[0m <b> & \u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ end\r".to_owned(),
            since_ms: 1_700_000_000_000,
        }
    }

    fn answer(accept: &str, method: &Method) -> Response<String> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())]);
        notice().answer(method, &headers)
    }

    #[test]
    fn a_browser_gets_a_page_that_reloads_itself_with_escaped_text() {
        let answer = answer("text/html,*/*;q=0.8", &Method::GET);
        assert_eq!(answer.status(), 500);
        let page = answer.body();
        assert!(
            page.contains("<pre>app.js:3 &lt;b&gt; &amp; link end</pre>"),
            "{page}"
        );
        assert!(
            page.contains(&notice().stamp()) && page.contains("location.reload()"),
            "{page}"
        );
        assert!(page.contains("Tue, 14 Nov 2023 22:13:20 GMT"), "{page}");
        assert!(!page.contains("src=") && !page.contains("href="), "{page}");
    }

    #[test]
    fn a_form_that_was_sent_is_not_sent_again_by_the_page() {
        let answer = answer("text/html", &Method::POST);
        assert!(!answer.body().contains("<script>"), "{}", answer.body());
    }

    #[test]
    fn a_client_that_does_not_accept_html_gets_text() {
        let answer = answer("application/json", &Method::GET);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        let expected = "hello: `npm run build` failed\ninstall Node.js\n\napp.js:3 <b> & link end\n\n\
                        Since Tue, 14 Nov 2023 22:13:20 GMT.\n";
        assert_eq!(answer.body(), expected);
    }

    #[test]
    fn the_stamp_differs_between_notices_and_without_a_notice() {
        let stamp = |notice: Option<&NoticePage>| poll_response(notice).headers()[STAMP].clone();
        let later = NoticePage {
            since_ms: 0,
            ..notice()
        };
        assert_eq!(stamp(Some(&notice())), stamp(Some(&notice())));
        assert_ne!(stamp(Some(&notice())), stamp(Some(&later)));
        assert_eq!(stamp(None), "none");
    }
}

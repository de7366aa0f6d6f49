//! Conversion of a request's path parameters, query, JSON body and form into Rust types.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Request;
use crate::Error;

impl Request {
    /// Returns a parameter of the route's pattern, percent-decoded: `request.param::<u64>("id")?` for `/items/{id}`.
    ///
    /// # Errors
    /// 404 if the parameter is not a `T`. 500 if the pattern has no such parameter, or if the request did not pass
    /// through a router.
    pub fn param<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        let mut params = self.params.iter();
        let Some((_, value)) = params.find(|(known, _)| known == name) else {
            return Err(Error::internal(format!(
                "the route has no parameter `{name}`"
            )));
        };
        value.parse().map_err(|_| Error::not_found())
    }

    /// Returns all parameters of the route's pattern, in the order of the pattern, percent-decoded.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }

    /// Parses the query into a `T`: `?page=2` into a struct with a field `page`. A field that is a `Vec` receives every
    /// value of its name. A field that is an `Option` may be missing.
    ///
    /// # Errors
    /// 400 if the query is not a `T`. The reason is sent to the visitor.
    pub fn query_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let query = self.query().unwrap_or_default();
        serde_html_form::from_str(query).map_err(|error| Error::new(400, format!("query: {error}")))
    }

    /// Parses the body of a form (`application/x-www-form-urlencoded`) into a `T`, like [`query_as`](Self::query_as).
    ///
    /// # Errors
    /// 415 if the body has another type, 422 if it is not a `T`. The reason is sent to the visitor.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.expect_type("a form", |media| {
            media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })?;
        serde_html_form::from_bytes(self.body())
            .map_err(|error| Error::new(422, format!("form: {error}")))
    }

    /// Parses the body as JSON. Its type must be `application/json`, or an `application/` type that ends in `+json`:
    /// browsers let pages of other sites send these types only after a preflight request.
    ///
    /// # Errors
    /// 415 if the body has another type, 400 if it is not a JSON text, 422 if it is not a `T`. The reason and its
    /// position are sent to the visitor.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.expect_type("JSON", is_json)?;
        serde_json::from_slice(self.body()).map_err(|error| {
            let status = match error.classify() {
                Category::Data => 422,
                Category::Syntax | Category::Eof | Category::Io => 400,
            };
            // The message can only quote data that the visitor has sent.
            Error::new(status, format!("JSON: {error}"))
        })
    }

    /// Returns an error if `is_right` does not accept the type of the body.
    fn expect_type(&self, what: &str, is_right: fn(&str) -> bool) -> Result<(), Error> {
        let sent = self.header("content-type").unwrap_or_default();
        let media = sent.split(';').next().unwrap_or_default().trim();
        if is_right(media) {
            return Ok(());
        }
        Err(Error::new(
            415,
            format!("the content-type of the body is not {what}"),
        ))
    }
}

fn is_json(media: &str) -> bool {
    let media = media.to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        item: String,
        #[serde(default)]
        count: Vec<u32>,
    }

    fn post(kind: &str, body: &str) -> Request {
        let headers = vec![("content-type".to_owned(), kind.as_bytes().to_vec())];
        Request::new("POST".into(), None, headers, body.into())
    }

    fn order(count: &[u32]) -> Order {
        Order {
            item: "two words".into(),
            count: count.to_vec(),
        }
    }

    fn status<T>(result: Result<T, Error>) -> u16 {
        result.map_or_else(|error| error.status(), |_| 200)
    }

    #[test]
    fn a_form_is_parsed_into_a_struct_and_repeated_fields_into_a_list() {
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        let sent = post(form, "item=two+words&count=1&count=2");
        assert_eq!(sent.form::<Order>().expect("a form"), order(&[1, 2]));
        assert_eq!(status(post(form, "count=1").form::<Order>()), 422);
        assert_eq!(status(post(form, "item=a&count=x").form::<Order>()), 422);
        assert_eq!(status(post("text/plain", "item=a").form::<Order>()), 415);
    }

    #[test]
    fn a_query_is_parsed_into_a_struct() {
        let ask = |target: &str| Request::new("GET".into(), Some(target.into()), vec![], vec![]);
        let sent = ask("/?item=two%20words&count=7");
        assert_eq!(sent.query_as::<Order>().expect("a query"), order(&[7]));
        assert_eq!(status(ask("/").query_as::<Order>()), 400);
    }

    #[test]
    fn json_is_parsed_into_a_struct_and_each_error_has_its_status() {
        let json = "application/json";
        let sent = post(json, r#"{"item":"two words","count":[3]}"#);
        assert_eq!(sent.json::<Order>().expect("JSON"), order(&[3]));
        let merge = post("application/merge-patch+json", r#"{"item":"a"}"#);
        assert_eq!(status(merge.json::<Order>()), 200);
        assert_eq!(status(post(json, r#"{"item":"#).json::<Order>()), 400);
        assert_eq!(status(post(json, "").json::<Order>()), 400);
        assert_eq!(status(post(json, r#"{"item":1}"#).json::<Order>()), 422);
        assert_eq!(status(post("text/plain", "{}").json::<Order>()), 415);
        let missing = post(json, "{}").json::<Order>().expect_err("no item");
        assert_eq!(
            missing.message(),
            "JSON: missing field `item` at line 1 column 2"
        );
    }

    #[test]
    fn a_path_parameter_that_cannot_be_parsed_is_404() {
        let params = vec![("id".to_owned(), "7".to_owned())];
        let request = post("", "").with_params(params);
        assert_eq!(request.param::<u64>("id").expect("a number"), 7);
        assert_eq!(request.param::<String>("id").expect("a text"), "7");
        assert_eq!(status(request.param::<bool>("id")), 404);
        assert_eq!(status(request.param::<u64>("nr")), 500);
    }
}

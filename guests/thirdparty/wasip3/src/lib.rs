//! A handler that uses the crate wasip3 for WASI 0.3, without this project's SDK and WIT and without a session. Answers
//! a POST with its own body, and every other request with a greeting.

use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::http::service::export!(Hello);

struct Hello;

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (_, trailers) = wit_future::new(|| Ok(None));
        if matches!(request.get_method(), Method::Post) {
            let (_, done) = wit_future::new(|| Ok(()));
            let (body, trailers_of_request) = Request::consume_body(request, done);
            let (response, _sent) = Response::new(Fields::new(), Some(body), trailers_of_request);
            return Ok(response);
        }
        let (mut writer, body) = wit_stream::new();
        let (response, _sent) = Response::new(Fields::new(), Some(body), trailers);
        wit_bindgen::spawn_local(async move {
            let left = writer.write_all(b"hello from wasip3\n".to_vec()).await;
            assert!(left.is_empty(), "the visitor listens");
        });
        Ok(response)
    }
}

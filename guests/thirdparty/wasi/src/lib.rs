//! A handler that uses the crate wasi for WASI 0.2.4, without this project's SDK and WIT and without a session. Answers
//! a POST with its own body, and every other request with a greeting.

use std::io::{self, Write};

use wasi::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

wasi::http::proxy::export!(Hello);

struct Hello;

impl wasi::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let mut stream = body.write().expect("the stream is taken once");
        if matches!(request.method(), Method::Post) {
            let incoming = request.consume().expect("the body is taken once");
            let mut incoming = incoming.stream().expect("the stream is taken once");
            io::copy(&mut incoming, &mut stream).expect("the request's body is whole");
        } else {
            stream
                .write_all(b"hello from wasi\n")
                .expect("the visitor listens");
        }
        stream.flush().expect("the visitor listens");
        drop(stream);
        OutgoingBody::finish(body, None).expect("no length was announced");
    }
}

//! Components built with plain `wasi:http` crates, without any code of ours.

use super::*;

#[tokio::test]
async fn third_party_components_answer_and_echo() {
    for name in ["wasi", "wasip2", "wstd", "wasip3"] {
        let guest = guest(&format!("thirdparty-{name}"));
        assert!(!guest.imports_session(), "{name}");
        assert_eq!(text(&guest, "/").await, format!("hello from {name}\n"));
        let mut invocation = invocation(&guest, Method::POST, "/", "a body");
        let echoed = body(invocation.run_without_session().await.unwrap())
            .await
            .unwrap();
        assert!(echoed.ends_with(b"a body"), "{name}: {echoed:?}");
    }
}

//! Tests of the guest as its visitors see it. Run them with `cloakroom test`.

use cloakroom_testing::Host;

#[test]
fn each_visitor_is_counted_apart() {
    let host = Host::start();
    let (anna, bela) = (host.visitor(), host.visitor());
    assert_eq!(anna.get("/session").text(), "1번 접속");
    assert_eq!(anna.get("/session").text(), "2번 접속");
    assert_eq!(bela.get("/session").text(), "1번 접속");
}

#[test]
fn after_a_delete_the_count_starts_afresh() {
    let host = Host::start();
    let anna = host.visitor();
    anna.get("/session");
    let deleted = anna.get("/session/delete");
    assert_eq!(deleted.status(), 302);
    assert_eq!(deleted.header("location"), Some("/session"));
    assert_eq!(anna.get("/session").text(), "1번 접속");
}

#[test]
fn a_visit_that_another_one_overtakes_is_counted_after_it() {
    let host = Host::start();
    let anna = host.visitor();
    anna.get("/session");
    host.rival_sets("num", 41);
    assert_eq!(anna.get("/session").text(), "42번 접속");
}

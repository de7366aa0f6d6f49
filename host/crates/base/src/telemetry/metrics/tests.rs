//! Tests of the exported metrics.

use super::*;

const GRANTS: [&str; 5] = ["session", "read_keys", "write_keys", "outbound", "cookies"];

fn scraped(guest: &GuestMetrics) -> String {
    let scrape = Scrape::default();
    guest.collect_into(&scrape);
    scrape.text()
}

#[test]
fn metrics_are_labelled_by_guest_version_and_status_class() {
    let guest = GuestMetrics::new("counter", GRANTS);
    let (first, second) = (guest.version(1), guest.version(2));
    first.answered(200, Duration::from_millis(2));
    first.answered(204, Duration::from_millis(2));
    second.answered(503, Duration::from_secs(60));
    second.trapped();
    guest.rolled_back(RollbackCause::Failures);
    GRANTS.into_iter().for_each(|grant| guest.denied(grant));
    guest.denied("write_keys");
    guest.found_no_connection();
    guest.waited(Duration::ZERO, &Err::<(), ()>(()));

    let text = scraped(&guest);

    for line in [
        "cloakroom_requests_total{guest=\"counter\",status=\"2xx\",version=\"1\"} 2",
        "cloakroom_requests_total{guest=\"counter\",status=\"5xx\",version=\"2\"} 1",
        "cloakroom_guest_traps_total{guest=\"counter\",version=\"2\"} 1",
        "cloakroom_guest_traps_total{guest=\"counter\",version=\"1\"} 0",
        "cloakroom_guest_rollbacks_total{cause=\"failures\",guest=\"counter\"} 1",
        "cloakroom_guest_rollbacks_total{cause=\"asked\",guest=\"counter\"} 0",
        "cloakroom_guest_denials_total{grant=\"session\",guest=\"counter\"} 1",
        "cloakroom_guest_denials_total{grant=\"read_keys\",guest=\"counter\"} 1",
        "cloakroom_guest_denials_total{grant=\"write_keys\",guest=\"counter\"} 2",
        "cloakroom_guest_denials_total{grant=\"outbound\",guest=\"counter\"} 1",
        "cloakroom_guest_denials_total{grant=\"cookies\",guest=\"counter\"} 1",
        "cloakroom_guest_outbound_refusals_total{guest=\"counter\"} 1",
        "cloakroom_request_duration_seconds_bucket{guest=\"counter\",le=\"0.001\"} 0",
        "cloakroom_request_duration_seconds_bucket{guest=\"counter\",le=\"0.0025\"} 2",
        "cloakroom_request_duration_seconds_bucket{guest=\"counter\",le=\"+Inf\"} 3",
        "cloakroom_request_duration_seconds_count{guest=\"counter\"} 3",
        "cloakroom_instance_refusals_total{guest=\"counter\"} 1",
        "# TYPE cloakroom_requests_total counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn the_series_of_a_version_end_with_it() {
    let guest = GuestMetrics::new("counter", GRANTS);
    let kept = guest.version(200);
    for number in 0..200 {
        guest.version(number).answered(200, Duration::ZERO);
    }
    let text = scraped(&guest);
    assert!(text.contains("version=\"200\"") && !text.contains("version=\"199\""));
    assert!(guest.versions.lock().len() <= 2);
    drop(kept);
}

#[test]
fn two_handles_of_a_version_count_into_one_series() {
    let guest = GuestMetrics::new("counter", GRANTS);
    let (live, kept) = (guest.version(1), guest.version(1));
    live.answered(200, Duration::ZERO);
    drop(live);
    kept.answered(200, Duration::ZERO);
    let line = "cloakroom_requests_total{guest=\"counter\",status=\"2xx\",version=\"1\"} 2";
    assert!(scraped(&guest).contains(line));
}

#[test]
fn label_values_are_escaped_in_the_metrics_text() {
    let scrape = Scrape::default();
    scrape.gauge("cloakroom_x", "X.", &[("guest", "a\"b\nc")], 1);
    assert!(
        scrape
            .text()
            .contains("cloakroom_x{guest=\"a\\\"b\\nc\"} 1\n")
    );
}

//! Tests of `[guest.NAME.limits]`: its keys, and values that exceed the limits of the host.

use super::*;
use cloakroom_runtime::GuestLimits;

fn with_limits(top: &str, limits: &str) -> String {
    format!(
        "{top}\n[guest.a]\ncomponent = \"a.wasm\"\n[guest.a.limits]\n{limits}\n\
         [[route]]\npath = \"/\"\nguest = \"a\""
    )
}

fn guest(limits: &str) -> GuestSettings {
    let text = with_limits("", limits);
    Read::of(&text).config().guests.remove(0)
}

#[test]
fn every_limit_of_a_guest_is_read() {
    let guest = guest(
        "deadline = \"2s\"\ncpu_time = \"1s\"\nmemory = \"1MiB\"\ninstances = 3\nwaiting = 4\nwait = \"1500ms\"\n\
         request_head = \"2KiB\"\nrequest_headers = 20\nrequest_body = 5\nresponse_body = 6\nreplay_body = 7\n\
         session_bytes = \"1KiB\"\nsession_keys = 8\noutbound_calls = 0\noutbound_connections = 12\nlog_lines = 9\nlog_line_bytes = 10\n\
         log_bytes = 90\nlog_rate = 900\n\
         stream_silence = \"11s\"",
    );
    let expected = GuestLimits {
        deadline: Duration::from_secs(2),
        cpu_time: Some(Duration::from_secs(1)),
        memory_bytes_max: 1 << 20,
        instances_max: 3,
        waiters_max: 4,
        wait_max: Duration::from_millis(1500),
        request_head_bytes_max: Some(2 << 10),
        request_headers_max: Some(20),
        request_body_bytes_max: 5,
        response_body_bytes_max: Some(6),
        replay_bytes_max: 7,
        outbound_calls_max: 0,
        outbound_connections_max: 12,
        log_lines_max: 9,
        log_line_bytes_max: 10,
        log_bytes_max: 90,
        log_bytes_per_s_max: 900,
        stream_silence_max: Duration::from_secs(11),
    };
    assert_eq!(guest.limits, expected);
    let grant = &guest.grants.session;
    assert_eq!(grant.session_bytes_max, Some(1 << 10));
    assert_eq!(grant.keys_max, Some(8));
}

#[test]
fn changed_limits_are_listed_in_the_syntax_of_the_configuration() {
    let text = "deadline = \"90s\"\nmemory = \"1536KiB\"\nresponse_body = 1000\nsession_keys = 8";
    let changed = changed_limits(&guest(text));
    let lines: Vec<_> = changed
        .iter()
        .map(|(key, value)| format!("{key} = {value:?}"))
        .collect();
    assert_eq!(
        lines,
        [
            "deadline = \"1m 30s\"",
            "memory = \"1536KiB\"",
            "response_body = \"1000B\"",
            "session_keys = \"8\""
        ]
    );
    assert_eq!(changed_limits(&guest("memory = \"128MiB\"")), []);
}

#[test]
fn the_value_unlimited_means_no_limit() {
    let guest = guest("cpu_time = \"unlimited\"\nresponse_body = \"unlimited\"");
    assert_eq!(guest.limits, GuestLimits::default());
}

#[test]
fn a_guest_limit_above_the_hosts_limit_is_a_fault_that_names_both() {
    let cases = [
        (
            "[server]\ninstances = 8",
            "instances = 9",
            "is above server.instances, which is 8",
        ),
        (
            "",
            "outbound_connections = 513",
            "is above server.outbound_connections, which is 512",
        ),
        (
            "",
            "request_head = \"33KiB\"",
            "is above server.request_head, which is 32768",
        ),
        (
            "",
            "request_headers = 101",
            "is above server.request_headers, which is 100",
        ),
        (
            "",
            "session_bytes = \"65KiB\"",
            "is above session.limits.session, which is 65536",
        ),
        (
            "[session.limits]\nkeys = 5",
            "session_keys = 6",
            "is above session.limits.keys, which is 5",
        ),
    ];
    for (top, limit, problem) in cases {
        let faults = Read::of(&with_limits(top, limit)).faults();
        let key = limit.split(' ').next().unwrap();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].contains(&format!("guest.a.limits.{key}: {problem}")),
            "{faults:?}"
        );
        assert!(faults[0].contains("or raise "), "{faults:?}");
    }
}

#[test]
fn a_waiting_bodies_quota_below_one_body_is_a_fault_that_names_both_keys() {
    let fault_text = |top: &str, limits: &str| {
        let mut faults = Read::of(&with_limits(top, limits)).faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    };
    // Tested with the default of 1 MiB and with a given value.
    for limits in ["", "replay_body = \"1MiB\""] {
        let fault = fault_text("[server]\nwaiting_bodies = \"3MiB\"", limits);
        assert!(
            fault.contains("guest.a.limits.replay_body: is 1MiB"),
            "{fault}"
        );
        assert!(
            fault.contains("server.waiting_bodies, the limit for all bodies, is 3MiB"),
            "{fault}"
        );
        assert!(
            fault.contains("raise server.waiting_bodies to at least 4MiB"),
            "{fault}"
        );
    }
    let large = "request_body = \"1GiB\"\nreplay_body = \"200MiB\"";
    assert!(fault_text("", large).contains("is 256MiB"));
}

#[test]
fn a_total_of_waiting_bodies_fits_small_bodies_and_guests_that_read_none_ahead() {
    let server = "[server]\nwaiting_bodies = \"1MiB\"";
    for limits in [
        "replay_body = \"64KiB\"",
        "replay_body = 0",
        "request_body = \"64KiB\"",
    ] {
        Read::of(&with_limits(server, limits)).config();
    }
    Read::of(&with_limits("[server]\nwaiting_bodies = \"4MiB\"", "")).config();
    let streamed = with_limits(server, "").replace("[guest.a.limits]", "stream = true");
    Read::of(&streamed).config();
}

#[test]
fn the_waiting_bodies_quota_is_checked_for_a_component_alone_too() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("alone.wasm");
    std::fs::write(&component, "").unwrap();
    let cli = CliOptions {
        component: Some(component),
        ..CliOptions::default()
    };
    let small = [("CLOAKROOM_SERVER_WAITING_BODIES", "1MiB")];
    let refused = Config::load(&cli, &small).unwrap_err();
    let fault_text = shown(&refused.faults);
    assert!(fault_text.contains("server.waiting_bodies"), "{fault_text}");
    assert!(Config::load(&cli, &[]).is_ok());
}

#[test]
fn default_guest_limits_are_lowered_to_the_hosts_limits() {
    let text = with_limits(
        "[server]\ninstances = 1\nrequest_headers = 10",
        "deadline = \"1s\"",
    );
    assert_eq!(Read::of(&text).config().server.runtime.instances_max, 1);
}

#[test]
fn limits_that_contradict_each_other_are_faults() {
    for (limits, key, remedy) in [
        (
            "deadline = \"1s\"\nwait = \"2s\"",
            "guest.a.limits.wait: is longer than the deadline of 1s",
            "raise deadline",
        ),
        (
            "instances = 0",
            "guest.a.limits.instances: 0 is out of range",
            "write 1 to",
        ),
        (
            "cpu_time = \"soon\"",
            "guest.a.limits.cpu_time: ",
            "or \"unlimited\"",
        ),
        (
            "instanses = 3",
            "guest.a.limits.instanses: unknown key",
            "did you mean `instances`?",
        ),
    ] {
        let faults = Read::of(&with_limits("", limits)).faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].contains(key) && faults[0].contains(remedy),
            "{faults:?}"
        );
    }
}

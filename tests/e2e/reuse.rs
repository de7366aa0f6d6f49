//! `reuse = N`: the number of requests of an instance, the separation of visitors' sessions, and the metrics.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

/// Sends this many requests. Returns for each one the number of requests that its instance had served before.
async fn served(host: &Host, path: &str, requests: usize) -> Vec<String> {
    let browser = Browser::new();
    let mut served = Vec::new();
    for _ in 0..requests {
        let answer = browser.get(&host.url(path)).await;
        served.push(answer.text.trim_end().to_owned());
    }
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_serves_the_configured_number_of_requests_by_default_one() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = Config::over("memory:")
            .guest_with("/reused", component, "reuse = 3")
            .guest_with("/fresh", component, "")
            .admin("")
            .start();
        let fresh = served(&host, "/fresh/instance", 4).await;
        assert_eq!(fresh, ["0"; 4], "{component}");
        let reused = served(&host, "/reused/instance", 7).await;
        assert_eq!(reused, ["0", "1", "2", "0", "1", "2", "0"], "{component}");
        assert_eq!(
            Browser::new().get(&host.url("/reused/trap")).await.status,
            500,
            "{component}"
        );
        assert_eq!(
            served(&host, "/reused/instance", 1).await,
            ["0"],
            "{component}"
        );

        let metrics = Browser::new()
            .get(&format!("{}/metrics", host.admin()))
            .await;
        let (reused, fresh) = (format!("{component}0"), format!("{component}1"));
        for line in [
            format!("cloakroom_guest_instances_reused_total{{guest=\"{reused}\"}} 5"),
            format!("cloakroom_guest_instances_reused_total{{guest=\"{fresh}\"}} 0"),
            format!("cloakroom_guest_instances_parked{{guest=\"{reused}\"}} 1"),
            format!("cloakroom_guest_instances_parked{{guest=\"{fresh}\"}} 0"),
        ] {
            let is_listed = metrics.text.lines().any(|metric| metric == line);
            assert!(is_listed, "{line}\n{}", metrics.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alternating_browsers_are_counted_separately_in_one_instance() {
    for component in ["counter", "counter-service"] {
        let host = Config::over("sqlite:sessions.sqlite")
            .guest_with("/", component, "session = \"write\"\nreuse = 1000")
            .admin("")
            .start();
        let (anna, bela) = (Browser::new(), Browser::new());
        for count in 1..=10 {
            for browser in [&anna, &bela] {
                let answer = browser.get(&host.url("/session")).await;
                assert_eq!(answer.text, format!("{count}번 접속"), "{component}");
            }
        }
        let metrics = Browser::new()
            .get(&format!("{}/metrics", host.admin()))
            .await;
        let line = format!("cloakroom_guest_instances_reused_total{{guest=\"{component}0\"}} 19");
        assert!(metrics.text.contains(&line), "{}", metrics.text);
    }
}

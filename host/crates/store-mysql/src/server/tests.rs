//! Variables of servers and the conclusions from them.

use super::*;

fn facts(rows: &[(&str, &str)]) -> ServerVariables {
    let mut facts = ServerVariables::default();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
    facts.add(rows.iter().map(owned));
    facts
}

fn galera(sync_wait: &str, state: &str) -> ServerVariables {
    facts(&[
        ("wsrep_on", "ON"),
        ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so"),
        ("wsrep_sync_wait", sync_wait),
        ("wsrep_ready", "ON"),
        ("wsrep_local_state", state),
        ("wsrep_cluster_status", "Primary"),
        ("wsrep_cluster_state_uuid", "c1"),
    ])
}

fn group(consistency: &str) -> ServerVariables {
    facts(&[
        ("group_replication_group_name", "g1"),
        ("group_replication_consistency", consistency),
        ("group_replication_single_primary_mode", "OFF"),
    ])
}

fn sql(facts: &ServerVariables) -> Option<String> {
    facts.causality().unwrap().map(|it| it.sql)
}

#[test]
fn causality_is_asked_for_only_where_the_server_does_not_give_it_by_itself() {
    let set = |value| Some(format!("SET SESSION wsrep_sync_wait = {value}"));
    assert_eq!(sql(&galera("0", "4")), set(7));
    assert_eq!(sql(&galera("1", "4")), set(7));
    assert_eq!(
        sql(&galera("8", "4")),
        set(15),
        "the bits of the server are kept"
    );
    assert_eq!(sql(&galera("7", "4")), None);
    assert_eq!(sql(&galera("15", "4")), None);

    let setting = |facts: &ServerVariables| facts.causality_setting();
    let raised = Some("wsrep_sync_wait = 7".to_owned());
    assert_eq!(setting(&galera("7", "4")), raised);
    assert_eq!(setting(&facts(&[("read_only", "OFF")])), None);

    let set = |value| {
        Some(format!(
            "SET SESSION group_replication_consistency = '{value}'"
        ))
    };
    assert_eq!(sql(&group("EVENTUAL")), set("BEFORE"));
    assert_eq!(sql(&group("BEFORE_ON_PRIMARY_FAILOVER")), set("BEFORE"));
    assert_eq!(sql(&group("AFTER")), set("BEFORE_AND_AFTER"));
    assert_eq!(sql(&group("BEFORE")), None);
    assert_eq!(sql(&group("before_and_after")), None);

    assert_eq!(sql(&facts(&[("wsrep_on", "OFF")])), None);
    let without_provider = [("wsrep_on", "ON"), ("wsrep_provider", "none")];
    assert_eq!(sql(&facts(&without_provider)), None);
    let too_old = facts(&[("group_replication_group_name", "g1")]);
    assert!(too_old.causality().is_err());
}

#[test]
fn a_server_is_read_only_if_any_of_its_read_only_variables_is_on() {
    for (name, value) in [
        ("read_only", "ON"),
        ("read_only", "NO_LOCK_NO_ADMIN"),
        ("super_read_only", "1"),
        ("innodb_read_only", "ON"),
    ] {
        assert_eq!(facts(&[(name, value)]).read_only(), Some(name));
    }
    for value in ["OFF", "off", "0"] {
        assert_eq!(facts(&[("READ_ONLY", value)]).read_only(), None, "{value}");
    }
    assert_eq!(facts(&[]).read_only(), None);
}

#[test]
fn a_galera_node_is_healthy_when_it_is_ready_and_synced() {
    assert!(
        galera("7", "4")
            .server(GroupMemberState::Unknown)
            .is_healthy_member
    );
    let donor = galera("7", "2");
    assert!(!donor.server(GroupMemberState::Unknown).is_healthy_member);
    assert_eq!(donor.galera_fault(), None, "it serves all the same");
    let mut outside = galera("7", "4");
    outside.add([("wsrep_ready".to_owned(), Some("OFF".to_owned()))]);
    assert!(outside.galera_fault().is_some());
    assert!(!outside.server(GroupMemberState::Unknown).is_healthy_member);
}

#[test]
fn a_member_of_a_group_is_healthy_when_it_is_online_among_a_majority_and_writable() {
    let member = |is_own, state: &str| (is_own, state.to_owned());
    let of = |states: &[(bool, String)]| GroupMemberState::of(states);
    let (online, lost) = (member(true, "ONLINE"), member(false, "UNREACHABLE"));
    let other = member(false, "ONLINE");
    assert_eq!(
        of(&[online.clone(), other, lost.clone()]),
        GroupMemberState::Online
    );
    assert_eq!(of(&[online, lost.clone(), lost]), GroupMemberState::Unfit);
    assert_eq!(of(&[member(true, "RECOVERING")]), GroupMemberState::Unfit);
    assert_eq!(of(&[]), GroupMemberState::Unfit);

    let mut facts = group("BEFORE");
    assert!(facts.server(GroupMemberState::Online).is_healthy_member);
    assert!(!facts.server(GroupMemberState::Unknown).is_healthy_member);
    facts.add([("super_read_only".to_owned(), Some("ON".to_owned()))]);
    assert!(!facts.server(GroupMemberState::Online).is_healthy_member);
}

#[test]
fn only_members_of_one_cluster_share_their_data() {
    let one = galera("7", "4").server(GroupMemberState::Unknown);
    let group = group("BEFORE").server(GroupMemberState::Online);
    let plain = facts(&[("version", "8.4.0")]).server(GroupMemberState::Unknown);
    assert!(one.shares_cluster_with(&one) && group.shares_cluster_with(&group));
    assert!(!one.shares_cluster_with(&group));
    assert!(!plain.shares_cluster_with(&plain));
    let mut elsewhere = galera("7", "4");
    let uuid = "wsrep_cluster_state_uuid".to_owned();
    elsewhere.add([(uuid, Some("c2".to_owned()))]);
    assert!(!one.shares_cluster_with(&elsewhere.server(GroupMemberState::Unknown)));
}

#[test]
fn a_server_is_described_to_the_operator_in_one_line() {
    let online = |facts: &ServerVariables| facts.server(GroupMemberState::Online).to_string();
    let plain = facts(&[("version", "11.4.2-MariaDB")]);
    assert_eq!(online(&plain), "a single server, version 11.4.2-MariaDB");
    assert!(online(&galera("0", "4")).contains("wsrep_sync_wait raised"));
    assert!(online(&galera("15", "4")).ends_with("wsrep_sync_wait = 15"));
    assert!(online(&group("BEFORE")).contains("several primaries"));
}

#[test]
fn a_server_that_refuses_statements_is_recognised_by_its_variables() {
    for name in ["transaction_read_only", "tx_read_only"] {
        assert_eq!(facts(&[(name, "ON")]).read_only(), Some(name));
        assert_eq!(facts(&[(name, "OFF")]).read_only(), None);
    }
    let mut rejecting = galera("7", "4");
    let set = |value: &str| [("wsrep_reject_queries".to_owned(), Some(value.to_owned()))];
    rejecting.add(set("NONE"));
    assert_eq!(rejecting.galera_fault(), None);
    rejecting.add(set("ALL"));
    assert!(
        rejecting
            .galera_fault()
            .is_some_and(|it| it.contains("ALL"))
    );
}

#[test]
fn a_member_whose_state_the_account_may_not_see_is_no_member() {
    let (online, unknown) = (GroupMemberState::Online, GroupMemberState::Unknown);
    let (online, unknown) = (
        group("BEFORE").server(online),
        group("BEFORE").server(unknown),
    );
    assert!(online.is_clustered() && !unknown.is_clustered());
    assert!(!online.shares_cluster_with(&unknown) && !unknown.shares_cluster_with(&online));
    assert!(online.names_cluster_of(&unknown));
    let right = "GRANT SELECT ON performance_schema.replication_group_members";
    assert!(unknown.to_string().ends_with(right), "{unknown}");
    assert!(!online.to_string().contains("GRANT"));
}

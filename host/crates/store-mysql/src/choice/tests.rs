//! Which server is used after faults, checks and prefer-first commands, including a random simulation of all of them.

use super::*;
use crate::server::{GroupMemberState, ServerVariables};

fn server(variables: &[(&str, &str)], membership: GroupMemberState) -> ServerDescription {
    let mut facts = ServerVariables::default();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
    facts.add(variables.iter().map(owned));
    facts.server(membership)
}

fn single() -> ServerDescription {
    server(&[("version", "8.4.0")], GroupMemberState::Unknown)
}

fn node_of(cluster: &str) -> ServerDescription {
    let variables = [
        ("wsrep_on", "ON"),
        ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so"),
        ("wsrep_cluster_state_uuid", cluster),
    ];
    server(&variables, GroupMemberState::Unknown)
}

fn node() -> ServerDescription {
    node_of("c1")
}

fn member(membership: GroupMemberState) -> ServerDescription {
    server(&[("group_replication_group_name", "g1")], membership)
}

/// Reports that a server serves after the servers in `tried` failed.
fn found(
    choice: &mut ServerChoice,
    index: usize,
    server: &ServerDescription,
    tried: &[(usize, ServerFailure)],
    now: Instant,
) -> ServingOutcome {
    let mut search = choice.search();
    for (index, failure) in tried {
        search.tried(*index, *failure);
    }
    choice.found(index, server, &search, now)
}

fn order(choice: &mut ServerChoice) -> Vec<usize> {
    choice.search().order()
}

#[test]
fn a_failed_single_server_is_used_again_only_by_the_operators_command() {
    // A member of a group whose state the account cannot read is treated like a single server.
    for server in [single(), member(GroupMemberState::Unknown)] {
        let (mut choice, now) = (ServerChoice::new(2), Instant::now());
        assert_eq!(
            found(&mut choice, 0, &server, &[], now),
            ServingOutcome::Serves
        );
        let failed = [(0, ServerFailure::Failed)];
        let next = found(&mut choice, 1, &server, &failed, now);
        assert_eq!(next, ServingOutcome::Adopted);
        let others = order(&mut choice);
        assert_eq!(others, [1], "not even when the second one fails");
        assert!(choice.is_barred(0));

        choice.prefer_first(&server);
        assert_eq!(order(&mut choice), [0, 1]);
    }
}

#[test]
fn a_server_that_was_read_only_may_be_used_when_the_roles_change() {
    let (mut choice, now) = (ServerChoice::new(2), Instant::now());
    let unfit = |index| [(index, ServerFailure::Unfit)];
    let next = found(&mut choice, 1, &single(), &unfit(0), now);
    assert_eq!(next, ServingOutcome::Adopted);
    assert_eq!(order(&mut choice), [1, 0]);
    let next = found(&mut choice, 0, &single(), &unfit(1), now);
    assert_eq!(next, ServingOutcome::Adopted);
    assert_eq!(choice.current(), 0);
}

#[test]
fn a_full_server_stays_in_use_with_fallback_to_members_of_its_cluster() {
    let (mut choice, now) = (ServerChoice::new(3), Instant::now());
    let full = [(0, ServerFailure::Full)];
    let fallback = found(&mut choice, 1, &single(), &full, now);
    assert_eq!(fallback, ServingOutcome::Foreign);
    let fallback = found(&mut choice, 1, &node(), &full, now);
    assert_eq!(fallback, ServingOutcome::Fallback);
    let fallback = found(&mut choice, 2, &node_of("c2"), &full, now);
    assert_eq!(fallback, ServingOutcome::Foreign);
    assert_eq!(order(&mut choice), [0, 1, 2]);
    assert_eq!(
        found(&mut choice, 0, &node(), &[], now),
        ServingOutcome::Serves
    );
}

#[test]
fn a_server_outside_of_the_cluster_is_never_used_in_its_place() {
    let (mut choice, now) = (ServerChoice::new(3), Instant::now());
    assert_eq!(
        found(&mut choice, 0, &node(), &[], now),
        ServingOutcome::Serves
    );
    let first = [(0, ServerFailure::Failed)];
    assert_eq!(
        found(&mut choice, 1, &node(), &first, now),
        ServingOutcome::Adopted
    );
    // The first server runs outside the cluster, and the second one refuses one connection.
    let second = [(1, ServerFailure::Failed)];
    for alone in [single(), node_of("c2"), member(GroupMemberState::Online)] {
        let next = found(&mut choice, 0, &alone, &second, now);
        assert_eq!(next, ServingOutcome::Foreign);
    }
    let both = [(1, ServerFailure::Failed), (0, ServerFailure::Unfit)];
    assert_eq!(
        found(&mut choice, 2, &node(), &both, now),
        ServingOutcome::Adopted
    );
    // The server in use now runs outside the cluster.
    assert_eq!(
        found(&mut choice, 2, &single(), &[], now),
        ServingOutcome::Foreign
    );

    choice.prefer_first(&single());
    assert_eq!(
        found(&mut choice, 0, &single(), &[], now),
        ServingOutcome::Serves
    );
}

#[test]
fn the_only_server_of_a_list_is_used_in_any_role() {
    let (mut choice, now) = (ServerChoice::new(1), Instant::now());
    for server in [node(), single(), node_of("c2")] {
        assert_eq!(
            found(&mut choice, 0, &server, &[], now),
            ServingOutcome::Serves
        );
    }
}

#[test]
fn a_member_in_use_goes_on_when_the_account_may_no_longer_see_its_state() {
    let (mut choice, now) = (ServerChoice::new(2), Instant::now());
    let (told, unknown) = (
        member(GroupMemberState::Online),
        member(GroupMemberState::Unknown),
    );
    assert_eq!(
        found(&mut choice, 0, &told, &[], now),
        ServingOutcome::Serves
    );
    assert_eq!(
        found(&mut choice, 0, &unknown, &[], now),
        ServingOutcome::Serves
    );
    let failed = [(0, ServerFailure::Failed)];
    let next = found(&mut choice, 1, &unknown, &failed, now);
    assert_eq!(next, ServingOutcome::Foreign, "it may be OFFLINE");
}

#[test]
fn a_connection_to_a_server_that_is_no_longer_in_use_is_not_handed_out() {
    let now = Instant::now();
    for (server, expected) in [
        (single(), ServingOutcome::Moved),
        (node(), ServingOutcome::Serves),
    ] {
        let mut choice = ServerChoice::new(2);
        found(&mut choice, 1, &server, &[(0, ServerFailure::Unfit)], now);
        let search = choice.search();
        choice.prefer_first(&server);
        assert_eq!(choice.found(1, &server, &search, now), expected);
    }
    // The result of a walk that began before a prefer-first command does not undo the command.
    let mut choice = ServerChoice::new(2);
    let mut search = choice.search();
    search.tried(0, ServerFailure::Failed);
    choice.prefer_first(&single());
    assert_eq!(
        choice.found(1, &single(), &search, now),
        ServingOutcome::Moved
    );
    assert!(!choice.is_barred(0));
}

#[test]
fn a_locked_server_is_replaced_only_by_one_that_serves() {
    let (mut choice, now) = (ServerChoice::new(2), Instant::now());
    choice.suspect_locked();
    let mut search = choice.search();
    assert_eq!(search.order(), [1, 0]);
    search.tried(1, ServerFailure::Unfit);
    assert_eq!(
        choice.found(0, &single(), &search, now),
        ServingOutcome::Serves
    );
    assert_eq!(order(&mut choice), [0, 1], "the others were asked once");

    choice.suspect_locked();
    let search = choice.search();
    assert_eq!(
        choice.found(1, &single(), &search, now),
        ServingOutcome::Adopted
    );
    assert_eq!(order(&mut choice), [1]);
    choice.suspect_locked();
    assert_eq!(order(&mut choice), [1], "there is no other one");
}

/// A cluster in which the first servers were left and the last one is in use.
fn at_the_last(servers: usize, now: Instant) -> ServerChoice {
    let mut choice = ServerChoice::new(servers);
    let failed: Vec<_> = (0..servers - 1)
        .map(|n| (n, ServerFailure::Failed))
        .collect();
    let next = found(&mut choice, servers - 1, &node(), &failed, now);
    assert_eq!(next, ServingOutcome::Adopted);
    choice
}

#[test]
fn a_member_of_a_cluster_is_used_again_after_it_was_healthy_without_a_break() {
    let start = Instant::now();
    let mut choice = at_the_last(3, start);
    assert_eq!(order(&mut choice), [2, 0, 1]);

    assert!(!choice.record_check(0, true, start));
    let almost = start + RETURN_AFTER_MIN - Duration::from_millis(1);
    assert!(!choice.record_check(0, true, almost));
    assert!(!choice.record_check(0, false, almost), "a break");
    assert!(!choice.record_check(0, true, almost));
    assert!(!choice.record_check(0, true, start + RETURN_AFTER_MIN));
    assert!(choice.record_check(0, true, almost + RETURN_AFTER_MIN));
    assert_eq!(choice.current(), 0);
}

#[test]
fn a_later_server_does_not_return_before_an_earlier_healthy_one() {
    let start = Instant::now();
    let mut choice = at_the_last(3, start);
    assert!(!choice.record_check(1, true, start));
    let later = start + Duration::from_secs(1);
    assert!(!choice.record_check(0, true, later));
    assert!(!choice.record_check(1, true, start + RETURN_AFTER_MIN));
    assert!(choice.record_check(0, true, later + RETURN_AFTER_MIN));
}

#[test]
fn a_server_that_fails_soon_after_each_return_waits_longer_each_time() {
    let (mut choice, mut now) = (ServerChoice::new(2), Instant::now());
    let failed = [(0, ServerFailure::Failed)];
    let mut waits = Vec::new();
    for _ in 0..7 {
        let next = found(&mut choice, 1, &node(), &failed, now);
        assert_eq!(next, ServingOutcome::Adopted);
        let left_at = now;
        while !choice.record_check(0, true, now) {
            now += Duration::from_secs(5);
        }
        waits.push((now - left_at).as_secs());
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);

    now += RETURN_IS_SOON;
    found(&mut choice, 1, &node(), &failed, now);
    assert!(!choice.record_check(0, true, now));
    assert!(choice.record_check(0, true, now + RETURN_AFTER_MIN));
}

#[test]
fn no_server_stays_barred_once_the_cluster_reports_its_members() {
    let (mut choice, now) = (ServerChoice::new(3), Instant::now());
    // Nothing is known about the first server or the second one, which is down from the start.
    let failed = [(0, ServerFailure::Failed), (1, ServerFailure::Failed)];
    let next = found(&mut choice, 2, &node(), &failed, now);
    assert_eq!(next, ServingOutcome::Adopted);
    assert_eq!(order(&mut choice), [2, 0, 1]);

    // Passed over while the store used a server that did not report a cluster.
    let mut choice = ServerChoice::new(3);
    let unknown = member(GroupMemberState::Unknown);
    found(&mut choice, 1, &unknown, &[(0, ServerFailure::Failed)], now);
    assert_eq!(order(&mut choice), [1, 2]);
    choice.learn(&member(GroupMemberState::Online));
    assert_eq!(order(&mut choice), [1, 0, 2]);
}

/// Servers that fail, return, leave their cluster and join it, and the state that the choice was given.
struct World {
    random: fastrand::Rng,
    choice: ServerChoice,
    now: Instant,
    servers: Vec<ServerDescription>,
    /// Left after a failure while no cluster was known, and not yet brought back by the operator.
    left: Vec<bool>,
    healthy_since: Vec<Option<Instant>>,
}

/// Random servers, faults and checks never break a rule.
#[test]
fn under_random_faults_no_server_without_the_latest_rows_is_used() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..1000 {
        let count = random.usize(1..5);
        let is_clustered = random.bool();
        let mut world = World {
            choice: ServerChoice::new(count),
            now: Instant::now(),
            servers: vec![if is_clustered { node() } else { single() }; count],
            left: vec![false; count],
            healthy_since: vec![None; count],
            random: random.fork(),
        };
        for _ in 0..200 {
            world.now += Duration::from_secs(world.random.u64(0..20));
            match world.random.u8(..) {
                0..8 => world.prefer_first(),
                8..20 if is_clustered => world.change_kind(),
                20..40 => world.choice.suspect_locked(),
                40..150 => world.request(),
                _ if is_clustered => world.look(),
                _ => {}
            }
            world.holds();
        }
    }
}

impl World {
    fn prefer_first(&mut self) {
        self.choice.prefer_first(&self.servers[0]);
        self.left.fill(false);
        self.healthy_since.fill(None);
    }

    /// Restarts a server outside of the cluster or inside it.
    fn change_kind(&mut self) {
        let index = self.random.usize(..self.servers.len());
        self.servers[index] =
            [node(), node(), single(), node_of("c2")][self.random.usize(..4)].clone();
    }

    /// Tries the servers in order until one serves, as a request does. The operator's prefer-first command may come in
    /// between.
    fn request(&mut self) {
        let before = self.choice.current();
        let cluster = self.choice.cluster().cloned();
        let mut search = self.choice.search();
        let mut failed = vec![before; usize::from(search.avoids_locked())];
        let is_interrupted = self.random.u8(..) < 20;
        for index in search.order() {
            if self.random.bool() {
                if is_interrupted {
                    self.prefer_first();
                }
                let found = (self.choice).found(index, &self.servers[index], &search, self.now);
                let is_used = matches!(
                    found,
                    ServingOutcome::Serves | ServingOutcome::Adopted | ServingOutcome::Fallback
                );
                if is_used {
                    self.may_be_used(index, cluster.as_ref().filter(|_| !is_interrupted));
                }
                if found == ServingOutcome::Adopted {
                    assert!(!is_interrupted, "the operator's word counts");
                    let is_known = self.choice.cluster().is_some();
                    let failed = failed.iter().filter(|_| !is_known);
                    failed.for_each(|index| self.left[*index] = true);
                }
                match found {
                    ServingOutcome::Foreign => search.tried(index, ServerFailure::Unfit),
                    _ => break,
                }
                continue;
            }
            let failure = [
                ServerFailure::Unfit,
                ServerFailure::Full,
                ServerFailure::Failed,
            ][self.random.usize(..3)];
            if failure == ServerFailure::Failed {
                failed.push(index);
            }
            search.tried(index, failure);
        }
        if self.choice.current() != before {
            self.healthy_since.fill(None);
        }
    }

    /// Asserts that a server has all acknowledged commits, as far as the host can know.
    fn may_be_used(&self, index: usize, cluster: Option<&ServerDescription>) {
        let server = &self.servers[index];
        if let Some(cluster) = cluster.filter(|_| self.servers.len() > 1) {
            assert!(server.shares_cluster_with(cluster), "{server:?}");
        } else if index != self.choice.current() {
            assert!(server.is_clustered(), "{server:?}");
        }
    }

    fn look(&mut self) {
        let Some(cluster) = self.choice.cluster().cloned() else {
            return;
        };
        let Some(index) = self.choice.earlier().next() else {
            return;
        };
        let is_healthy =
            self.random.u8(..) < 240 && self.servers[index].shares_cluster_with(&cluster);
        let since = *self.healthy_since[index].get_or_insert(self.now);
        if self.choice.record_check(index, is_healthy, self.now) {
            assert!(is_healthy && self.now - since >= RETURN_AFTER_MIN);
        }
        if !is_healthy || self.choice.current() == index {
            self.healthy_since[index] = None;
        }
    }

    fn holds(&mut self) {
        let current = self.choice.current();
        if self.choice.cluster().is_some() {
            // From now on each server must prove that it is a member.
            self.left.fill(false);
        }
        assert!(!self.left[current], "a single server came back by itself");
        let search = self.choice.search();
        let (order, avoids_locked) = (search.order(), search.avoids_locked());
        if avoids_locked {
            self.choice.suspect_locked();
        }
        let place = order.iter().position(|index| *index == current);
        let expected = usize::from(avoids_locked) * (order.len() - 1);
        assert_eq!(place, Some(expected));
        // Each member is asked, regardless of its past: the other members may fail, and it has all rows.
        for index in 0..self.servers.len() {
            let is_known = self.choice.cluster().is_some() && self.servers.len() > 1;
            let is_asked = order.contains(&index);
            assert!(is_asked || !is_known, "{index} is barred for ever");
            assert_eq!(is_asked, index == current || !self.choice.is_barred(index));
        }
    }
}

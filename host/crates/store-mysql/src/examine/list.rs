//! The servers of a list: each one as a store of its own, and whether they belong together.

use crate::options::MysqlOptions;
use crate::server::{ServerDescription, ServerKind};
use cloakroom_session::store::examine::ExamineFinding;

/// A server of the list that answered.
pub(crate) struct ReachedServer {
    pub(crate) name: String,
    pub(crate) server: ServerDescription,
    /// Whether the server takes no writes.
    pub(crate) is_closed: bool,
}

/// Returns for each server its name and the options of a store on this server alone. These options create and alter
/// nothing.
pub(crate) fn each(options: &MysqlOptions) -> Vec<(String, MysqlOptions)> {
    let options = MysqlOptions {
        create_database_table: false,
        alter_table: false,
        reads_only: true,
        ..options.clone()
    };
    if let Some(socket) = &options.socket {
        return vec![(socket.display().to_string(), options)];
    }
    let alone = |host: &super::super::ServerAddress| {
        let hosts = vec![host.clone()];
        let options = MysqlOptions {
            hosts,
            ..options.clone()
        };
        (host.to_string(), options)
    };
    options.hosts.iter().map(alone).collect()
}

/// Returns the findings on all servers that answered, taken together.
pub(crate) fn judge(reached: &[ReachedServer]) -> Vec<ExamineFinding> {
    let mut findings = Vec::new();
    findings.extend(cluster(reached));
    if !reached.is_empty() && reached.iter().all(|it| it.is_closed) {
        let found = match reached.len() {
            1 => "the server takes no writes: no host can start on it",
            _ => "no server of the URL takes writes: no host can start on them",
        };
        let remedy = "name a server that takes writes, or open this one (read_only)";
        findings.push(ExamineFinding::fault("privileges", found, remedy));
    }
    findings
}

/// Checks whether the servers form one cluster. A single server needs no finding.
fn cluster(reached: &[ReachedServer]) -> Option<ExamineFinding> {
    const SUBJECT: &str = "causality";
    if reached.len() < 2 {
        return None;
    }
    let Some(member) = reached
        .iter()
        .find(|it| it.server.kind != ServerKind::Plain)
    else {
        let found = "the URL names several servers, and they are in no Galera cluster and in no replication group: after a failure \
                     the next server may lack the last commits";
        let remedy = "name one server or a cluster; SCALING.md explains which commits a replica pair can lose";
        return Some(ExamineFinding::warning(SUBJECT, found, remedy));
    };
    let strangers: Vec<_> = (reached.iter())
        .filter(|it| !std::ptr::eq(*it, member) && !it.server.names_cluster_of(&member.server))
        .map(|it| it.name.as_str())
        .collect();
    if strangers.is_empty() {
        let found = format!(
            "the {} servers that answered are one cluster",
            reached.len()
        );
        return Some(ExamineFinding::good(SUBJECT, found));
    }
    let found = format!(
        "{} not in the cluster of {}: a host that switches to another server loses sessions and brings ended ones back",
        match &strangers[..] {
            [only] => format!("{only} is"),
            several => format!("{} are", several.join(", ")),
        },
        member.name
    );
    let remedy = "name only the members of one cluster, or let the other servers join it";
    Some(ExamineFinding::fault(SUBJECT, found, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ServerAddress;
    use crate::server::{GroupMemberState, ServerVariables};
    use cloakroom_session::store::examine::ExamineState;

    fn reached(name: &str, variables: &[(&str, &str)]) -> ReachedServer {
        let mut facts = ServerVariables::default();
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
        facts.add(variables.iter().map(pair));
        ReachedServer {
            name: name.to_owned(),
            server: facts.server(GroupMemberState::Unknown),
            is_closed: facts.read_only().is_some(),
        }
    }

    fn node(name: &str, cluster: &str) -> ReachedServer {
        let variables = [
            ("wsrep_on", "ON"),
            ("wsrep_provider", "/usr/lib/libgalera_smm.so"),
            ("wsrep_cluster_state_uuid", cluster),
        ];
        reached(name, &variables)
    }

    fn states(reached: &[ReachedServer]) -> Vec<ExamineState> {
        judge(reached).iter().map(|it| it.state).collect()
    }

    #[test]
    fn servers_of_one_list_that_do_not_belong_together_are_a_fault() {
        let (one, same, other) = (node("a:1", "u"), node("b:1", "u"), node("c:1", "v"));
        let plain = reached("d:1", &[]);
        let findings = judge(&[one, same, other, plain]);
        assert_eq!(findings[0].state, ExamineState::Fault);
        let found = &findings[0].found;
        assert!(
            found.starts_with("c:1, d:1 are not in the cluster of a:1"),
            "{found}"
        );

        assert_eq!(
            states(&[node("a", "u"), node("b", "u")]),
            [ExamineState::Good]
        );
        assert_eq!(
            states(&[reached("a", &[]), reached("b", &[])]),
            [ExamineState::Warning]
        );
        assert!(states(&[reached("a", &[])]).is_empty());
        let group = |name| reached(name, &[("group_replication_group_name", "g")]);
        assert_eq!(states(&[group("a"), group("b")]), [ExamineState::Good]);
        assert_eq!(
            states(&[reached("a", &[]), group("b")]),
            [ExamineState::Fault]
        );
    }

    #[test]
    fn servers_that_all_take_no_writes_are_a_fault() {
        let closed = || reached("a", &[("read_only", "ON")]);
        assert_eq!(states(&[closed()]), [ExamineState::Fault]);
        let open = reached("b", &[]);
        assert_eq!(states(&[closed(), open]), [ExamineState::Warning], "a pair");
    }

    #[test]
    fn each_server_is_a_store_of_its_own_in_which_nothing_is_made() {
        let host = |name: &str| ServerAddress {
            name: name.to_owned(),
            port: 3306,
        };
        let hosts = vec![host("a"), host("b")];
        let options = MysqlOptions::new(hosts, "app".to_owned(), "shop".to_owned());
        let each = each(&options);
        let names: Vec<_> = each.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a:3306", "b:3306"]);
        for (_, options) in &each {
            assert_eq!(options.hosts.len(), 1);
            assert!(options.reads_only && !options.create_database_table && !options.alter_table);
        }
    }
}

#!/usr/bin/env bash
# MySQL clusters for tests/e2e/cluster/long/group.rs. Downloads the `mysql-server` package of Debian unstable, unpacks it into a folder
# (target/mysql, or the one that CLOAKROOM_MYSQL names) and runs it there with its own dynamic loader. Nothing is installed.
#
# Usage: tests/mysql.sh [--run FOLDER PORT] COMMAND. The servers' data are in FOLDER and their ports are above PORT. The commands:
#
#   unpack               fetches it, about 100 MB
#   group single|multi   starts three members of Group Replication, with one primary or with three
#   pair async|semisync  starts a primary (1) and a replica (2); semisync waits with AFTER_SYNC
#   kill N               kill -9 of server N
#   promote N            makes the replica N a primary, with all transactions that it has received
#   sql N STATEMENTS     runs statements on server N
#   urls                 prints a URL of the database for each of three hosts
#   stop                 kills all servers and removes their data
set -eu
cd "$(dirname "$0")/.."

root=${CLOAKROOM_MYSQL:-$PWD/target/mysql}
tree=$root/tree
run=$root/run
port=24400 # server N listens on port + N, its group on port + 10 + N
if [ "${1:-}" = --run ]; then
    run=$2
    port=$3
    shift 3
fi
start_seconds_max=60

fail() {
    echo "tests/mysql.sh: $1" >&2
    exit 1
}

# A separate apt that knows only unstable and no installed package, so that it also downloads the C library that the server was built with.
own_apt() {
    apt-get -q -o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=/nonexistent -o Dir::State="$root/apt/state" \
        -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt/cache" -o APT::Sandbox::User=root "$@" >/dev/null
}

unpack() {
    mkdir -p "$root/apt/state/lists/partial" "$root/apt/cache/archives/partial" "$tree"
    : >"$root/apt/status"
    # The mirror from which this machine gets its own packages.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' 'Component: main' | head -n 1)
    [ -n "$mirror" ] || fail "apt has no Debian mirror: add one to its sources, run apt-get update, then run again"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] $mirror unstable main" >"$root/apt/sources.list"
    own_apt update || fail "apt-get update failed: is the package mirror reachable?"
    own_apt --download-only --no-install-recommends -y install mysql-server || fail "unstable has no mysql-server that can be fetched"
    for package in "$root"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$tree"
    done
    by_its_loader mysqld --no-defaults --version
}

by_its_loader() { # by_its_loader PROGRAM ARGUMENT...
    loader=$(find "$tree" -name ld-linux-x86-64.so.2 -type f -print -quit)
    [ -n "$loader" ] || fail "there is no MySQL in $tree: run tests/mysql.sh unpack"
    program=$(find "$tree/usr/sbin" "$tree/usr/bin" -name "$1" -print -quit)
    [ -n "$program" ] || fail "there is no $1 in $tree"
    shift
    "$loader" --library-path "$tree/usr/lib/x86_64-linux-gnu:$tree/lib/x86_64-linux-gnu:$tree/usr/lib/mysql/private" "$program" "$@"
}

sql() { # sql N STATEMENTS
    by_its_loader mysql --no-defaults --user=root --socket="$run/$1/socket" --skip-column-names --batch --execute="$2"
}

start() { # start N ARGUMENT...
    n=$1
    shift
    mkdir -p "$run/$n"
    set -- --no-defaults --user="$(id -un)" --basedir="$tree/usr" --lc-messages-dir="$tree/usr/share/mysql" \
        --character-sets-dir="$tree/usr/share/mysql/charsets" --plugin-dir="$tree/usr/lib/mysql/plugin" --datadir="$run/$n/data" \
        --secure-file-priv=NULL "$@"
    # The plugins' options are unknown to a server that has no data directory yet.
    by_its_loader mysqld "${@:1:8}" --initialize-insecure --log-error="$run/$n/error.log" || fail "no data directory: see $run/$n/error.log"
    by_its_loader mysqld "$@" --socket="$run/$n/socket" --port=$((port + n)) --mysqlx=OFF --bind-address=127.0.0.1 --server-id="$n" \
        --pid-file="$run/$n/pid" --log-error="$run/$n/error.log" --report-host=127.0.0.1 --report-port=$((port + n)) \
        --gtid-mode=ON --enforce-gtid-consistency=ON --innodb-buffer-pool-size=64M --max-connections=300 >/dev/null 2>&1 &
    wait_for "server $n" sql "$n" "SELECT 1"
    # Setup before the servers know each other is repeated on each server.
    sql "$n" "SET sql_log_bin = 0; CREATE USER replica@'%' IDENTIFIED BY 'replica';
        GRANT REPLICATION SLAVE ON *.* TO replica@'%'"
}

wait_for() { # wait_for WHAT COMMAND...
    what=$1
    shift
    for ((second = 0; second < start_seconds_max; second++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 1
    done
    fail "$what did not start within $start_seconds_max seconds: see $run/*/error.log"
}

# The account needs the privileges to ask for causality and to read the group's members. Without the second one a host never again uses a
# server that it has switched away from after a failure.
create_database() { # create_database N
    sql "$1" "CREATE DATABASE sessions_test; CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON sessions_test.* TO app@'%';
        GRANT SESSION_VARIABLES_ADMIN ON *.* TO app@'%'; GRANT SELECT ON performance_schema.replication_group_members TO app@'%'"
}

group() { # group single|multi
    case $1 in
    single) primary=ON checks=OFF ;;
    multi) primary=OFF checks=ON ;;
    *) fail "a group is single or multi" ;;
    esac
    for n in 1 2 3; do
        start "$n" --plugin-load-add=group_replication.so --loose-group-replication-start-on-boot=OFF \
            --loose-group-replication-group-name=5f0c0a9e-7a5b-4d0e-9a55-2f7d6c1b3a10 \
            --loose-group-replication-local-address=127.0.0.1:$((port + 10 + n)) \
            --loose-group-replication-group-seeds="127.0.0.1:$((port + 11)),127.0.0.1:$((port + 12)),127.0.0.1:$((port + 13))" \
            --loose-group-replication-single-primary-mode=$primary --loose-group-replication-ip-allowlist=127.0.0.1/32 \
            --loose-group-replication-enforce-update-everywhere-checks=$checks --loose-group-replication-recovery-get-public-key=ON \
            --loose-group-replication-member-expel-timeout=0
        sql "$n" "SET sql_log_bin = 0; GRANT BACKUP_ADMIN, CONNECTION_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO replica@'%';
            CHANGE REPLICATION SOURCE TO SOURCE_USER = 'replica', SOURCE_PASSWORD = 'replica'
            FOR CHANNEL 'group_replication_recovery'"
    done
    sql 1 "SET GLOBAL group_replication_bootstrap_group = ON; START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group = OFF"
    create_database 1
    sql 2 "START GROUP_REPLICATION"
    sql 3 "START GROUP_REPLICATION"
    wait_for "a group of three" is_whole
}

is_whole() {
    online=$(sql 1 "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE'")
    [ "$online" = 3 ]
}

pair() { # pair async|semisync
    case $1 in
    async) source_options=() replica_options=() ;;
    semisync)
        # The primary waits for the replica at least as long as a host waits for a statement.
        source_options=(--plugin-load-add=semisync_source.so --loose-rpl-semi-sync-source-enabled=ON
            --loose-rpl-semi-sync-source-wait-point=AFTER_SYNC --loose-rpl-semi-sync-source-timeout=60000)
        replica_options=(--plugin-load-add=semisync_replica.so --loose-rpl-semi-sync-replica-enabled=ON)
        ;;
    *) fail "a pair is async or semisync" ;;
    esac
    start 1 "${source_options[@]}"
    start 2 "${replica_options[@]}"
    sql 2 "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = $((port + 1)), SOURCE_USER = 'replica',
        SOURCE_PASSWORD = 'replica', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1;
        START REPLICA; SET GLOBAL super_read_only = ON"
    create_database 1
    wait_for "the replica's copy" sql 2 "USE sessions_test"
}

# The replica has acknowledged everything that it has received, so all of it is applied before the relay log is deleted.
promote() { # promote N
    sql "$1" "STOP REPLICA IO_THREAD"
    received=$(sql "$1" "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status WHERE CHANNEL_NAME = ''")
    timed_out=$(sql "$1" "SELECT WAIT_FOR_EXECUTED_GTID_SET('$received', $start_seconds_max)")
    [ "$timed_out" = 0 ] || fail "server $1 has not applied $received after $start_seconds_max seconds"
    sql "$1" "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF"
}

signal() { # signal NAME N
    kill "-$1" "$(cat "$run/$2/pid")"
}

# Each host gets all servers. The hosts prefer different servers only where each server accepts writes.
urls() {
    servers=()
    for folder in "$run"/*/; do
        servers+=("127.0.0.1:$((port + $(basename "$folder")))")
    done
    is_multi=$(sql 1 "SELECT @@group_replication_single_primary_mode" 2>/dev/null || true)
    for host in 1 2 3; do
        list=$(IFS=,; echo "${servers[*]}")
        echo "mysql://app:app@$list/sessions_test"
        [ "$is_multi" != 0 ] || servers=("${servers[@]:1}" "${servers[0]}")
    done
}

stop() {
    for folder in "$run"/*/; do
        signal KILL "$(basename "$folder")" || true
    done
    rm -rf "$run"
}

case ${1:-} in
unpack | stop | urls) "$1" ;;
group | pair | promote) "$1" "${2:-}" ;;
sql) sql "$2" "$3" ;;
kill) signal KILL "$2" ;;
*) fail "see the comment at the top of this file for the commands" ;;
esac

//! The changes between two configurations that a running host cannot apply.

use super::{Config, ServerSettings, SessionSettings};

/// Records the key of every listed field that differs. If the sections differ, but none of the listed fields does, the whole
/// section is recorded. A field that is forgotten here is therefore never treated as one that can change.
macro_rules! compare {
    ($changed:ident, $section:literal, $old:expr, $new:expr; $($key:literal: $($field:ident).+,)*) => {
        let before = $changed.len();
        $(if $old.$($field).+ != $new.$($field).+ {
            $changed.push(concat!($section, ".", $key));
        })*
        if $changed.len() == before && $old != $new {
            $changed.push($section);
        }
    };
}

impl Config {
    /// Returns the keys that differ in `new` and only take effect at the start. These are all keys except those of guests,
    /// routes and cookie secrets.
    pub fn fixed_keys_changed(&self, new: &Self) -> Vec<&'static str> {
        // Every field is named, so that a new section cannot be forgotten here.
        let Self {
            listen,
            server,
            session,
            cookies: _,
            store,
            guests: _,
            builds: _,
            routes: _,
            admin,
            log,
            warnings: _,
        } = self;
        let mut changed = Vec::new();
        if *listen != new.listen {
            changed.push("listen");
        }
        self::server(&mut changed, server, &new.server);
        self::session(&mut changed, session, &new.session);
        changed.extend(store.backend.changed_keys(&*new.store.backend));
        let mut new_store = new.store.clone();
        new_store.backend.clone_from(&store.backend);
        compare!(changed, "store", *store, new_store;
            "clear_expired": clear_expired,
            "check_expiration_interval": check_expiration_interval,
            "expiration": expiration,
            "disable_touch": disable_touch,
        );
        match (admin, &new.admin) {
            (Some(old), Some(new)) => {
                compare!(changed, "admin", *old, *new;
                    "listen": listen,
                    "token": token,
                );
            }
            (old, new) if old != new => changed.push("admin"),
            _ => {}
        }
        compare!(changed, "log", *log, new.log;
            "format": format,
            "level": filter,
        );
        changed
    }
}

fn server(changed: &mut Vec<&'static str>, old: &ServerSettings, new: &ServerSettings) {
    compare!(changed, "server", *old, *new;
        "connections": totals.connections,
        "request_headers": listener.headers_max,
        "header_timeout": listener.header_timeout,
        "idle_timeout": listener.idle_timeout,
        "body_timeout": listener.body_pace.grace,
        "body_rate": listener.body_pace.bytes_per_s,
        "grace": listener.grace,
        "request_head": listener.head_bytes_max,
        "request_target": request_target_bytes_max,
        "requests": totals.requests,
        "waiting_bodies": totals.request_bytes,
        "untaken": totals.response_bytes,
        "instances": runtime.instances_max,
        "instance_waiters": runtime.instance_waiters_max,
        "instance_wait": runtime.instance_wait_max,
        "outbound_connections": runtime.outbound_connections_max,
        "code_cache": runtime.code_cache,
        "compile_timeout": runtime.compile_timeout,
        "watch": watch,
    );
}

fn session(changed: &mut Vec<&'static str>, old: &SessionSettings, new: &SessionSettings) {
    // The secrets may change.
    let mut new = new.clone();
    new.secrets.clone_from(&old.secrets);
    compare!(changed, "session", *old, new;
        "name": options.cookie.name,
        "compat": compat,
        "resave": options.resave,
        "rolling": options.rolling,
        "save_uninitialized": options.save_uninitialized,
        "unset": options.unset,
        "proxy": proxy,
        "trusted_proxies": trusted_proxies,
        "absolute_lifetime": options.absolute_lifetime,
        "cookie.path": options.cookie.path,
        "cookie.domain": options.cookie.domain,
        "cookie.max_age": options.cookie.max_age,
        "cookie.expires": options.cookie.expires_at_ms,
        "cookie.http_only": options.cookie.http_only,
        "cookie.secure": options.cookie.secure,
        "cookie.same_site": options.cookie.same_site,
        "cookie.partitioned": options.cookie.partitioned,
        "cookie.priority": options.cookie.priority,
        "limits.session": options.session_bytes_max,
        "limits.keys": options.keys_max,
        "limits.key": options.key_bytes_max,
        "limits.slot_waiters": options.lock_waiters_max,
        "limits.snapshots": options.snapshots_bytes_max,
    );
}

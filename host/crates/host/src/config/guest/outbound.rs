//! The `outbound_hosts` of a guest. Each is a text, or a table with further settings.

use crate::config_reader::kinds::{Field, ValueError, boolean, text};
use crate::config_reader::source::{TomlValue, ValueNode};
use cloakroom_runtime::OutboundHost;

const REMEDY: &str = "write \"api.example.com\", \"api.example.com:8080\" or \"*.example.com\", without scheme or path";
const TABLE: &str = "write { host = \"api.internal\", private = true }";

/// Reads the hosts that the guest may send requests to.
pub(crate) fn hosts(field: &Field<'_>) -> Result<Vec<OutboundHost>, ValueError> {
    let TomlValue::List(items) = field.value else {
        let problem = format!("expected a list, found {}", field.value.kind());
        return Err(ValueError::new(problem, "write [\"api.example.com\"]"));
    };
    let read = items.iter().enumerate().map(|(index, item)| {
        let item = Field {
            value: &item.value,
            ..*field
        };
        host_or_table(&item).map_err(|error| error.of_item(index))
    });
    read.collect()
}

fn host_or_table(field: &Field<'_>) -> Result<OutboundHost, ValueError> {
    let TomlValue::Table(table) = field.value else {
        return host(field);
    };
    let part = |key: &str| {
        table
            .get(key)
            .map(|ValueNode { value, .. }| Field { value, ..*field })
    };
    if let Some(key) = table
        .keys()
        .find(|key| !["host", "private"].contains(&key.as_str()))
    {
        return Err(ValueError::new("unknown key; its keys are host, private", TABLE).of_part(key));
    }
    let named = part("host").ok_or_else(|| ValueError::new("missing", TABLE).of_part("host"))?;
    let named = host(&named).map_err(|error| error.of_part("host"))?;
    let private = part("private").map(|field| boolean(&field)).transpose();
    let private = private.map_err(|error| error.of_part("private"))?;
    Ok(named.with_private(private.unwrap_or(false)))
}

fn host(field: &Field<'_>) -> Result<OutboundHost, ValueError> {
    let text = text(field)?;
    text.parse()
        .map_err(|_| ValueError::new(format!("{text:?} is not a valid host"), REMEDY))
}

//! `store.tls` and `store.ca_file`: whether the connection to a MySQL server is encrypted, and how its certificate is verified.

use std::path::PathBuf;

use crate::config_reader::kinds::{Field, ValueError, boolean, existing_file, path, word};
use crate::config_reader::source::TomlValue;
use crate::config_reader::{ConfigMode, Section};
use cloakroom_store_mysql::{CertificateCheck, MysqlOptions, MysqlTls};

/// Reads `ca_file`, and `tls` as a word or as a table. A table means that the connection is encrypted.
pub(crate) fn read(section: &mut Section<'_>, options: &mut MysqlOptions) {
    let beside = ca_file(section);
    let mut table = section.section_if_table("tls");
    let is_table = section.is_given("tls");
    let (within, verify) = (ca_file(&mut table), table.get("verify", verify));
    // A word in the environment takes precedence over the table in the file.
    let mode = section.get("tls", mode).unwrap_or(match is_table {
        true => MysqlTls::Required,
        false => MysqlTls::Auto,
    });
    if beside.is_some() && within.is_some() {
        section.fault(
            "ca_file",
            "the authorities are given twice: here and in store.tls.ca_file",
            "leave out one of the two",
        );
    }
    for (section, is_given) in [(&*section, beside.is_some()), (&table, within.is_some())] {
        if is_given && mode == MysqlTls::Off {
            section.fault(
                "ca_file",
                "tls = false verifies no certificate",
                "leave out one of the two",
            );
        }
    }
    let ca_file = within.or(beside);
    if verify == Some(CertificateCheck::Ca) && ca_file.is_none() && !table.is_given("ca_file") {
        table.fault(
            "verify",
            "\"ca\" needs a ca_file: a public authority signs the certificate of any host",
            "write ca_file = \"ca.pem\" with the server's own authority, or verify = \"full\"",
        );
    }
    options.tls = mode;
    options.ca_file = ca_file;
    options.verify = verify.unwrap_or(CertificateCheck::Full);
}

fn ca_file(section: &mut Section<'_>) -> Option<PathBuf> {
    match section.reader.mode() {
        ConfigMode::Serve => section.get("ca_file", existing_file),
        ConfigMode::Test => section.get("ca_file", path),
    }
}

fn verify(field: &Field<'_>) -> Result<CertificateCheck, ValueError> {
    word(&[
        ("full", CertificateCheck::Full),
        ("ca", CertificateCheck::Ca),
    ])(field)
}

fn mode(field: &Field<'_>) -> Result<MysqlTls, ValueError> {
    if matches!(field.value, TomlValue::Text(text) if text != "true" && text != "false") {
        return word(&[("auto", MysqlTls::Auto)])(field).map_err(|error| ValueError {
            remedy: "write true, false, \"auto\" or { ca_file = \"ca.pem\" }".to_owned(),
            ..error
        });
    }
    Ok(match boolean(field)? {
        true => MysqlTls::Required,
        false => MysqlTls::Off,
    })
}

//! `[admin]`: the admin interface for the operator. It is off by default, and never open to a network without a token.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use secrecy::ExposeSecret as _;

use super::secrets;
use super::server::listen;
use crate::admin::{AdminOptions, Token};
use crate::config_reader::Section;
use crate::config_reader::fault::SettingOrigin;
use crate::config_reader::kinds::{Field, ValueError, secret};

/// The address of the admin interface if it is enabled without an address.
pub const DEFAULT_ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3001);

/// How to create a token.
const TOKEN_REMEDY: &str =
    "make one with `openssl rand -base64 32`, and write token = \"env:NAME\" or \"file:PATH\"";

/// Reads `[admin]`. The interface is enabled by the section itself, or by a command-line option or a variable for `listen`. A
/// variable for the token alone does not enable it, because the command `guests` reads the same variable.
pub(crate) fn read(mut section: Section<'_>, visitors: SocketAddr) -> Option<AdminOptions> {
    let address = section.get("listen", listen);
    let token = section.get("token", token);
    let is_asked_for =
        section.is_given("listen") || section.origin_of("") != SettingOrigin::Nowhere;
    if !is_asked_for {
        return None;
    }
    let address = address.unwrap_or(DEFAULT_ADMIN_LISTEN);
    if !address.ip().to_canonical().is_loopback() && section.is_missing("token") {
        section.fault(
            "token",
            format!("missing: any client that reaches {address} could replace the guests"),
            format!("{TOKEN_REMEDY}; or listen on {DEFAULT_ADMIN_LISTEN}"),
        );
    }
    if overlap(address, visitors) {
        section.fault(
            "listen",
            format!("{address} is taken by the visitors' listener, {visitors}"),
            "write another port",
        );
    }
    Some(AdminOptions {
        listen: address,
        token,
    })
}

/// Returns whether two listeners cannot use these addresses at the same time. An unspecified address covers every address of
/// its kind, and the one of IPv6 also covers those of IPv4.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: IpAddr, other: IpAddr| {
        one == other || (one.is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    let (ip, other_ip) = (one.ip(), other.ip());
    let is_one_port = one.port() == other.port() && one.port() != 0;
    is_one_port && (covers(ip, other_ip) || covers(other_ip, ip))
}

fn token(field: &Field<'_>) -> Result<Token, ValueError> {
    let token = secret(field)?;
    let text = token.expose_secret();
    if let Some(weakness) = secrets::weakness(text.as_bytes()) {
        return Err(ValueError::new(weakness, TOKEN_REMEDY));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ValueError::new(
            "contains a character that is not allowed in an Authorization header",
            TOKEN_REMEDY,
        ));
    }
    Ok(Token::new(text))
}

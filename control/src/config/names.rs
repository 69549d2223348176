//! What the kernel takes for the names of things.

use super::fields::Value;

/// Bytes of an interface's name (`IFNAMSIZ` less its NUL).
const MAX_INTERFACE: usize = 15;
/// Bytes of a unix socket's path (`sun_path` less its NUL).
pub(super) const MAX_SOCKET: usize = 107;

/// A name that the kernel takes for an interface (`dev_valid_name`).
pub(super) fn interface_name<'a>(value: &Value<'a>) -> Option<&'a str> {
    let name = value.string()?;
    let unfit = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let unfit = matches!(name, "" | "." | "..") || name.contains(unfit);
    if unfit || name.len() > MAX_INTERFACE {
        let help = format!("use the name of an interface, 1 to {MAX_INTERFACE} bytes");
        value.refuse(format!("\"{name}\" cannot be an interface"), help);
        return None;
    }
    Some(name)
}

//! The security types of RFB (IANA's registry "Remote Framebuffer Security Types"): names, and what to set at a desktop that offers only
//! unsupported ones.

use anteroom_rfb::handshake::{SECURITY_NONE, SECURITY_VNC_AUTHENTICATION};

pub(super) const TIGHT: u8 = 16;
pub(super) const TLS: u8 = 18;
pub(super) const VENCRYPT: u8 = 19;
const XVP: u8 = 22;
const APPLE_REMOTE_DESKTOP: u8 = 30;
const MS_LOGON_II: u8 = 113;

/// Types that noVNC supports and for which the page can ask the user: user name and password.
pub(super) const OF_VIEWERS: [u8; 3] = [XVP, APPLE_REMOTE_DESKTOP, MS_LOGON_II];
/// Types that a message lists; a desktop can offer 255.
const LISTED_MAX: usize = 12;

fn name(number: u8) -> &'static str {
    match number {
        SECURITY_NONE => "None",
        SECURITY_VNC_AUTHENTICATION => "VNC authentication",
        5 => "RA2",
        6 => "RA2ne",
        TIGHT => "Tight",
        17 => "Ultra",
        TLS => "TLS",
        VENCRYPT => "VeNCrypt",
        20 => "SASL",
        21 => "MD5",
        XVP => "xvp",
        23 => "Secure Tunnel",
        24 => "Integrated SSH",
        APPLE_REMOTE_DESKTOP => "Apple Remote Desktop",
        31..=36 => "Apple",
        112 | MS_LOGON_II => "MS-Logon",
        129 => "RA2-256",
        130 => "RA2ne-256",
        3..=15 | 128..=255 => "RealVNC",
        _ => "unknown",
    }
}

/// The types by number and name.
pub(super) fn list(types: &[u8]) -> String {
    let shown = types.iter().take(LISTED_MAX).map(|number| format!("{number} ({})", name(*number)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if types.len() > LISTED_MAX {
        text += &format!(" and {} more", types.len() - LISTED_MAX);
    }
    text
}

/// What to set at a desktop that offers these types.
pub(super) fn advice(types: &[u8]) -> &'static str {
    let has = |wanted: &[u8]| types.iter().any(|number| wanted.contains(number));
    if types.iter().any(|number| (30..=36).contains(number)) {
        "in the settings of Screen Sharing or Remote Management there, let VNC viewers control the screen with a password"
    } else if has(&[VENCRYPT]) {
        "use an address with vencrypt:// and give the desktop a certificate (X509Vnc), or set SecurityTypes=VncAuth there"
    } else if has(&[TLS]) {
        "anonymous TLS proves nothing: set SecurityTypes=X509Vnc there and use vencrypt://, or SecurityTypes=VncAuth"
    } else if types.iter().any(|number| matches!(number, 3..=15 | 128..=255)) {
        "set VncAuth there (RealVNC: Authentication=VncAuth and Encryption=PreferOff; TigerVNC: SecurityTypes=VncAuth)"
    } else if has(&[17, 112, MS_LOGON_II]) {
        "switch MS-Logon off there and set a VNC password"
    } else {
        "set VNC authentication (VncAuth, a VNC password) there"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_listed_with_names_and_the_list_is_bounded() {
        assert_eq!(list(&[13, 5]), "13 (RealVNC), 5 (RA2)");
        let all: Vec<u8> = (0..=255).collect();
        assert!(list(&all).ends_with(" and 244 more") && list(&all).len() < 400, "{}", list(&all));
    }

    #[test]
    fn advice_depends_on_the_maker() {
        for (types, part) in [
            (&[13, 5][..], "Authentication=VncAuth"),
            (&[13, 5, 6, 130, 192], "Authentication=VncAuth"),
            (&[33, 36, 35], "Screen Sharing"),
            (&[18], "vencrypt://"),
            (&[19, 5], "vencrypt://"),
            (&[16], "VNC password"),
            (&[17], "MS-Logon"),
        ] {
            assert!(advice(types).contains(part), "{types:?}");
        }
    }
}

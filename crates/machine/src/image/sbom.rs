//! The software bill of materials of an image, in CycloneDX 1.6 (ECMA-424).

use super::{Manifest, recipe::Recipe};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The version of CycloneDX.
const SPEC_VERSION: &str = "1.6";

/// The bill of materials of an image: its Debian packages, its tools, its kernel and its agent.
pub fn to_cyclonedx(manifest: &Manifest) -> Value {
    let packages = manifest.packages.iter().map(|(name, version)| debian_package(manifest, name, version));
    let tools = manifest.clis.iter().filter(|(name, _)| !manifest.packages.contains_key(*name));
    let tools = tools.map(|(name, version)| tool(name, version));
    let agent = json!({
        "type": "application",
        "bom-ref": "anteroom-agent",
        "name": "anteroom-agent",
        "version": env!("CARGO_PKG_VERSION"),
        "hashes": [sha256(&manifest.agent_sha256)],
    });
    json!({
        "$schema": format!("http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json"),
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": serial_number(&manifest.hash),
        "version": 1,
        "metadata": {
            "timestamp": timestamp(manifest.built_at_unix_s),
            "component": {
                "type": "operating-system",
                "bom-ref": "anteroom-image",
                "name": "anteroom-image",
                "version": manifest.hash,
                "hashes": [sha256(&manifest.rootfs.sha256)],
            },
        },
        "components": packages.chain(tools).chain([agent]).collect::<Vec<_>>(),
    })
}

fn debian_package(manifest: &Manifest, name: &str, version: &str) -> Value {
    let suite = Recipe::parse_embedded().map(|recipe| recipe.suite).unwrap_or_default();
    let purl = format!("pkg:deb/debian/{}@{}?arch=amd64&distro={suite}", encode(name), encode(version));
    let hashes: Vec<Value> = manifest.package_sha256.get(name).map(|hash| sha256(hash)).into_iter().collect();
    json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes })
}

/// A tool: with the package and its hash if it is the recipe's.
fn tool(name: &str, version: &str) -> Value {
    let recipe = Recipe::parse_embedded().ok();
    let cli = recipe.iter().flat_map(|recipe| &recipe.clis).find(|cli| cli.name == name && cli.version == version);
    let Some(cli) = cli else {
        return json!({ "type": "application", "bom-ref": format!("tool-{name}"), "name": name, "version": version });
    };
    // The package is `@scope/name@version`.
    let (package, package_version) = cli.package.rsplit_once('@').unwrap_or((&cli.package, version));
    let path: Vec<String> = package.split('/').map(encode).collect();
    let purl = format!("pkg:npm/{}@{}", path.join("/"), encode(package_version));
    let sha512 = cli.integrity.strip_prefix("sha512-").and_then(|text| STANDARD.decode(text).ok());
    let hashes: Vec<Value> =
        sha512.map(|hash| json!({ "alg": "SHA-512", "content": hex::encode(hash) })).into_iter().collect();
    json!({ "type": "application", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes })
}

fn sha256(hex: &str) -> Value {
    json!({ "alg": "SHA-256", "content": hex })
}

/// A URN made of the image's hash, so that the same image has the same number (a version 8 UUID, RFC 9562).
fn serial_number(hash: &str) -> String {
    let digits: String = hash.chars().filter(char::is_ascii_hexdigit).chain(std::iter::repeat('0')).take(30).collect();
    format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[15..18],
        &digits[18..30]
    )
}

/// A time as in RFC 3339, in UTC.
fn timestamp(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|unix_s| jiff::Timestamp::from_second(unix_s).ok());
    time.unwrap_or_default().to_string()
}

/// Percent-encodes everything but unreserved characters (package-url's rule).
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::manifest_with;

    #[test]
    fn bill_of_materials_names_each_package_and_tool_with_its_hash() {
        let mut manifest = manifest_with(&[("libc6", "2.41-12+deb13u1"), ("chromium", "1:149.0~x")]);
        manifest.package_sha256.insert("libc6".to_owned(), "ab".repeat(32));
        let codex = Recipe::parse_embedded().unwrap().clis.into_iter().find(|cli| cli.name == "codex").unwrap();
        manifest.clis.insert("codex".to_owned(), codex.version.clone());
        let bom = to_cyclonedx(&manifest);
        let components = bom["components"].as_array().unwrap();
        let find = |name: &str| components.iter().find(|component| component["name"] == name).unwrap();
        assert_eq!(find("libc6")["purl"], "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=trixie");
        assert_eq!(find("libc6")["hashes"][0]["content"], "ab".repeat(32));
        assert_eq!(find("chromium")["purl"], "pkg:deb/debian/chromium@1%3A149.0~x?arch=amd64&distro=trixie");
        let purl = format!("pkg:npm/%40openai/codex@{}-linux-x64", codex.version);
        assert_eq!(find("codex")["purl"], purl.as_str());
        assert_eq!(find("codex")["hashes"][0]["alg"], "SHA-512");
        assert_eq!(find("anteroom-agent")["hashes"][0]["content"], manifest.agent_sha256.as_str());
        assert_eq!(bom["serialNumber"], to_cyclonedx(&manifest)["serialNumber"], "the same image has the same number");
    }

    #[test]
    fn time_is_written_as_in_rfc_3339() {
        assert_eq!(timestamp(1_767_225_600), "2026-01-01T00:00:00Z");
    }
}

//! The setting `public_url`.

use url::Url;

/// The origin that browsers send for this address: scheme and host name in lower case, the port unless it is the scheme's.
///
/// # Errors
/// What is wrong with it, as a sentence: pages ask for paths below the root of their host, so a path is refused.
pub fn normalise_public_url(text: &str) -> Result<String, String> {
    let invalid = |why: &str| {
        Err(format!(
            "public_url {why}: it is the scheme (https:// or http://), the host name and the port, like https://anteroom.example"
        ))
    };
    let Ok(url) = Url::parse(text) else { return invalid(&format!("{text:?} is not a URL")) };
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("has a user or a password");
    }
    if !matches!(url.scheme(), "https" | "http") {
        return invalid(&format!("{text:?} must begin with https:// or http://"));
    }
    if url.path() != "/" {
        return invalid(&format!(
            "{text:?} has the path {:?}, and pages work only at the root of a host name (give this server one of its own)",
            url.path()
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid(&format!("{text:?} has a query or a fragment"));
    }
    Ok(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r19_public_url_is_the_origin_that_browsers_send() {
        for text in [
            "https://anteroom.example",
            "https://anteroom.example/",
            "https://anteroom.example:443",
            "https://Anteroom.Example",
            "HTTPS://ANTEROOM.example:443/",
        ] {
            assert_eq!(normalise_public_url(text).as_deref(), Ok("https://anteroom.example"), "{text}");
        }
        assert_eq!(normalise_public_url("http://Desk:80/").as_deref(), Ok("http://desk"));
        assert_eq!(normalise_public_url("http://desk:8080").as_deref(), Ok("http://desk:8080"));
        assert_eq!(normalise_public_url("https://[::1]:8443").as_deref(), Ok("https://[::1]:8443"));
    }

    #[test]
    fn r19_path_query_and_user_are_refused() {
        for (text, why) in [
            ("https://portal.example/anteroom", "root of a host name"),
            ("https://anteroom.example?x=1", "query or a fragment"),
            ("https://anteroom.example/#a", "query or a fragment"),
            ("https://me:hunter2@anteroom.example", "has a user or a password"),
            ("anteroom.example", "is not a URL"),
            ("ftp://anteroom.example", "must begin with"),
        ] {
            let error = normalise_public_url(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
